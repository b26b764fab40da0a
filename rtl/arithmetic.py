"""Small pieces of fixed-point arithmetic."""

from amaranth import Const, Module, Mux, Shape, Signal, Value

from locallearn.quant.formats import QFormat

__all__ = ["adder_tree", "clamp", "popcount"]


def clamp(value: Value, form: QFormat) -> Value:
    """The nearest number of the format to a signed value."""
    shape = Shape(form.bits, form.signed)
    low = Mux(value < form.min, Const(form.min, shape), value)
    return Mux(value > form.max, Const(form.max, shape), low)[: form.bits]


def popcount(bits: Value) -> Value:
    """How many bits are one, as a balanced tree."""
    terms: list[Value] = list(bits)
    while len(terms) > 1:
        terms = [sum(terms[i : i + 2], Const(0, 0)) for i in range(0, len(terms), 2)]
    return terms[0]


def adder_tree(m: Module, terms: list[Value], shape: Shape) -> tuple[Value, int]:
    """The sum of `terms` with a register after every level of four-way additions.

    Returns (sum, latency in cycles). Every partial sum must fit `shape`.
    """
    latency = 0
    while len(terms) > 1 or latency == 0:
        level: list[Value] = []
        for i in range(0, len(terms), 4):
            partial = Signal(shape, name=f"sum_{latency}_{i // 4}", reset_less=True)
            m.d.sync += partial.eq(sum(terms[i : i + 4], Const(0, 0)))
            level.append(partial)
        terms = level
        latency += 1
    return terms[0], latency
