"""Small pieces of fixed-point arithmetic."""

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value

from locallearn.quant.formats import QFormat

__all__ = ["adder_tree", "clamp", "popcount"]


def clamp(value: Value, form: QFormat) -> tuple[Value, Value]:
    """The nearest number of the format to a signed value that is at least as wide, and whether it is another one."""
    sign = value[-1]
    if form.signed:
        beyond = value[form.bits - 1 : -1]
        clipped = Mux(sign, ~beyond.all(), beyond.any())
        limit: Value = Cat((~sign).replicate(form.bits - 1), sign)
    else:
        clipped = sign | value[form.bits : -1].any()
        limit = (~sign).replicate(form.bits)
    return Mux(clipped, limit, value[: form.bits]), clipped


def popcount(bits: Value) -> Value:
    """How many bits are one, as a balanced tree."""
    terms: list[Value] = list(bits)
    while len(terms) > 1:
        terms = [sum(terms[i : i + 2], Const(0, 0)) for i in range(0, len(terms), 2)]
    return terms[0]


def adder_tree(m: Module, terms: Sequence[Value], shape: Shape) -> tuple[Value, int]:
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
