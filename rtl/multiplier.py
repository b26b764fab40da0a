"""A multiplier with the registers that DSP blocks have inside, and one on the way from them."""

from amaranth import Cat, ClockSignal, Const, Instance, Module, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.rtl.target import ECP5, ICE40UP, Target

__all__ = ["Multiplier"]


class Multiplier(wiring.Component):
    """product = a * b, three cycles later; one a cycle.

    a        an operand, signed or not
    b        signed operand
    product  signed, as wide as both together
    """

    def __init__(self, target: Target, a: Shape, b: Shape) -> None:
        assert b.signed
        self._target = target
        self._a_signed = a.signed
        super().__init__({"a": In(a), "b": In(b), "product": Out(signed(a.width + b.width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        widest = max(len(self.a), len(self.b))
        if self._target == ECP5 and widest <= 18:
            product = Signal.like(self.product)
            m.submodules.dsp = self._mult18x18d(product)
            # Blocks lie in rows of their own, some way from the logic.
            m.d.sync += self.product.eq(product)
        elif self._target == ICE40UP and widest <= 16:
            m.submodules.dsp = self._mac16(m)
        else:
            # Without a reset, so that synthesis can move the registers into a DSP block.
            a = Signal(self.a.shape(), reset_less=True)
            b = Signal(self.b.shape(), reset_less=True)
            product = Signal(self.product.shape(), reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), self.product.eq(product)]
        return m

    def _operands(self, width: int) -> tuple[Value, Value]:
        """Both, extended to `width` bits by their own rules."""
        sign: Value = self.a[-1] if self._a_signed else Const(0, 1)
        return Cat(self.a, sign.replicate(width))[:width], Cat(self.b, self.b[-1].replicate(width))[:width]

    def _mult18x18d(self, product: Signal) -> Instance:
        """ECP5's: yosys finds the multiplier but leaves its registers, which take 3.9 ns out of the path."""
        a, b = self._operands(18)
        ports: dict[str, Value | int] = {}
        for bit in range(18):
            ports |= {f"i_A{bit}": a[bit], f"i_B{bit}": b[bit], f"i_C{bit}": 0}
        for number in range(1, 4):
            ports |= {f"i_CLK{number}": 0, f"i_CE{number}": 0, f"i_RST{number}": 0}
        registers = {}
        for place in ("INPUTA", "INPUTB", "OUTPUT"):
            registers |= {f"p_REG_{place}_CLK": "CLK0", f"p_REG_{place}_CE": "CE0", f"p_REG_{place}_RST": "RST0"}
        return Instance(
            "MULT18X18D",
            **registers,
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            i_CLK0=ClockSignal(),
            i_CE0=1,
            i_RST0=0,
            i_SIGNEDA=int(self._a_signed),
            i_SIGNEDB=1,
            i_SOURCEA=0,
            i_SOURCEB=0,
            **ports,
            **{f"o_P{bit}": product[bit] for bit in range(len(product))},
        )

    def _mac16(self, m: Module) -> Instance:
        """iCE40 UltraPlus': yosys leaves the register of an unsigned operand outside, and then timing is not seen."""
        a, b = self._operands(16)
        controls = ("IRST", "ORST", "OLOAD", "ADDSUB", "OHOLD")
        output = Signal(32)
        m.d.comb += self.product.eq(output)
        return Instance(
            "SB_MAC16",
            p_A_SIGNED=int(self._a_signed),
            p_B_SIGNED=1,
            p_A_REG=1,
            p_B_REG=1,
            # The registers of the four 8 x 8 products, that of their sum, and the last as the output.
            p_TOP_8x8_MULT_REG=1,
            p_BOT_8x8_MULT_REG=1,
            p_PIPELINE_16x16_MULT_REG1=1,
            p_PIPELINE_16x16_MULT_REG2=1,
            p_TOPOUTPUT_SELECT=3,
            p_BOTOUTPUT_SELECT=3,
            i_CLK=ClockSignal(),
            i_CE=1,
            i_A=a,
            i_B=b,
            i_C=Const(0, 16),
            i_D=Const(0, 16),
            **{f"i_{hold}HOLD": 0 for hold in "ABCD"},
            **{f"i_{name}{half}": 0 for name in controls for half in ("TOP", "BOT")},
            i_CI=0,
            i_ACCUMCI=0,
            i_SIGNEXTIN=0,
            o_O=output,
        )
