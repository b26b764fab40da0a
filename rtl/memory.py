"""Memories of two cycles, laid out in the block RAMs of the target, so that what follows them starts at a register."""

from typing import ClassVar

from amaranth import Array, Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from locallearn.rtl.target import ECP5, ICE40UP, SPRAM, Target

__all__ = ["BlockMemory", "SinglePortMemory", "small_memory", "words_memory"]


class _Words(wiring.Component):
    """`depth` words of `width` bits, however they are made."""

    address: Value
    read: Value
    enable: Value
    data: Value
    write: Value
    write_address: Value
    write_data: Value

    def __init__(self, width: int, depth: int) -> None:
        self._width = width
        self._depth = depth
        super().__init__(
            {
                "address": In(range(depth)),
                "read": In(1, init=1),  # type: ignore[call-arg]  # not in the stubs
                "enable": In(1, init=1),  # type: ignore[call-arg]  # not in the stubs
                "data": Out(width),
                "write": In(1),
                "write_address": In(range(depth)),
                "write_data": In(width),
            }
        )


# -- blocks: one primitive each, or one memory for synthesis to find a primitive for -------------------------


class _Block(_Words):
    """One of the blocks that a memory is made of; `latency` is 1 or 2 cycles, 2 with an output register inside, which
    alone minds `enable`. What has a single port minds neither that nor `read`."""

    latency: ClassVar[int] = 1


class _Whole(_Block):
    """A memory with a read and a write port, for a simulator."""

    _attributes: ClassVar[dict[str, str]] = {}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._width, depth=self._depth, init=[], attrs=self._attributes)
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(self.read),
            self.data.eq(read.data),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write),
        ]
        return m


class _Inferred(_Whole):
    """The same for synthesis, which has to find a block RAM for it."""

    _attributes: ClassVar[dict[str, str]] = {"ram_style": "block"}


class _Shallow(_Whole):
    """The same in LUTs."""

    _attributes: ClassVar[dict[str, str]] = {"ram_style": "distributed"}


class _SinglePort(_Block):
    """One address for both, as SPRAM has, for a simulator."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._width, depth=self._depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        address = Mux(self.write, self.write_address, self.address)
        m.d.comb += [
            read.addr.eq(address),
            self.data.eq(read.data),
            write.addr.eq(address),
            write.data.eq(self.write_data),
            write.en.eq(self.write),
        ]
        return m


class _DP16KD(_Block):
    """ECP5's block RAM: port A writes, port B reads through the output register, without which it takes 5.8 ns."""

    latency = 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = next(width for depth, width in reversed(ECP5.blocks) if width >= self._width)
        # The address is that of a bit, with the parity bits left out: words of 9 and 18 take 8 and 16.
        unused = shape.bit_length() - 1
        address, write_address = (
            Cat(Const(0, unused), value, Const(0, 14))[:14] for value in (self.address, self.write_address)
        )
        if shape == 18:
            # Here the lowest two bits of a written word's address enable its bytes.
            write_address = write_address | 0b11
        ports: dict[str, Value | int] = {}
        for letter, value in (("A", write_address), ("B", address)):
            ports |= {f"i_AD{letter}{bit}": value[bit] for bit in range(14)}
            ports |= {f"i_CS{letter}{bit}": 0 for bit in range(3)}
            ports |= {f"i_CLK{letter}": ClockSignal(), f"i_RST{letter}": 0}
        written = Cat(self.write_data, Const(0, 18))
        ports |= {f"i_DIA{bit}": written[bit] for bit in range(18)}
        ports |= {f"i_DIB{bit}": 0 for bit in range(18)}
        ports |= {f"o_DOB{bit}": self.data[bit] for bit in range(self._width)}
        m.submodules.ram = Instance(
            "DP16KD",
            p_DATA_WIDTH_A=shape,
            p_DATA_WIDTH_B=shape,
            p_REGMODE_A="NOREG",
            p_REGMODE_B="OUTREG",
            p_RESETMODE="SYNC",
            p_ASYNC_RESET_RELEASE="SYNC",
            p_WRITEMODE_A="NORMAL",
            p_WRITEMODE_B="NORMAL",
            p_CSDECODE_A="0b000",
            p_CSDECODE_B="0b000",
            p_CLKAMUX="CLKA",
            p_CLKBMUX="CLKB",
            p_GSR="DISABLED",
            i_CEA=1,
            i_CEB=self.read,
            i_OCEA=1,
            i_OCEB=self.enable,
            i_WEA=self.write,
            i_WEB=0,
            **ports,
        )
        return m


class _SPRAM(_Block):
    """iCE40 UltraPlus' large RAM: 16,384 words of 16 bits."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = Signal(16)
        m.submodules.ram = Instance(
            "SB_SPRAM256KA",
            i_CLOCK=ClockSignal(),
            i_ADDRESS=Cat(Mux(self.write, self.write_address, self.address), Const(0, 14))[:14],
            i_DATAIN=Cat(self.write_data, Const(0, 16))[:16],
            i_MASKWREN=0b1111,
            i_WREN=self.write,
            i_CHIPSELECT=1,
            i_STANDBY=0,
            i_SLEEP=0,
            i_POWEROFF=1,  # the chip's own name; it is active when low
            o_DATAOUT=word,
        )
        m.d.comb += self.data.eq(word)
        return m


# -- memories: blocks side by side and behind one another ----------------------------------------------------


class _Blocks(_Words):
    """Banks of at most `bank_depth` words behind one another, each of blocks of `slices` bits side by side."""

    def __init__(self, block: type[_Block], width: int, depth: int, slices: tuple[int, ...], bank_depth: int) -> None:
        super().__init__(width, depth)
        self._block = block
        self._slices = slices
        self._bank_depth = min(depth, bank_depth)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inner = (self._bank_depth - 1).bit_length()
        words: list[Value] = []
        for bank in range(-(-self._depth // self._bank_depth)):
            start = 0
            parts: list[Value] = []
            for width in self._slices:
                block = self._block(width, self._bank_depth)
                m.submodules[f"bank_{bank}_bit_{start}"] = block
                m.d.comb += [
                    block.address.eq(self.address[:inner]),
                    block.read.eq(self.read),
                    block.enable.eq(self.enable),
                    block.write.eq(self.write & (self.write_address[inner:] == bank)),
                    block.write_address.eq(self.write_address[:inner]),
                    block.write_data.eq(self.write_data[start : start + width]),
                ]
                parts.append(block.data)
                start += width
            words.append(Cat(parts))

        chosen = self.address[inner:]
        for cycle in range(self._block.latency):
            later = Signal.like(chosen, reset_less=True, name=f"bank_{cycle + 1}")
            with m.If((self.read, self.enable)[cycle]):
                m.d.sync += later.eq(chosen)
            chosen = later
        word: Value = Array(words)[chosen]
        if self._block.latency == 1:
            register = Signal(self._width, reset_less=True)
            with m.If(self.enable):
                m.d.sync += register.eq(word)
            word = register
        m.d.comb += self.data.eq(word)
        return m


class BlockMemory(_Blocks):
    """Block RAM with its output register. Latency 2 cycles; a read and a write a cycle. Starts undefined.

    address, data  the word at `address` is there two cycles later; width bits
    read           `address` is read, or the word read before stays in the memory
    enable         that goes into the output register, or what is there stays; both always where they are not connected
    write, write_address, write_data
                   a word must not be read in the cycle that it is written in: what is read then is undefined
    """

    def __init__(self, target: Target, width: int, depth: int) -> None:
        block = _DP16KD if target == ECP5 else _Inferred if target.blocks else _Whole
        bank_depth = target.blocks[-1][0] if target.blocks else depth
        super().__init__(block, width, depth, target.slices(width, depth), bank_depth)


class _ShallowMemory(_Blocks):
    """Latency and members as those of `BlockMemory`, in LUTs."""

    def __init__(self, target: Target, width: int, depth: int) -> None:
        super().__init__(_Shallow, width, depth, (width,), depth)


class SinglePortMemory(_Blocks):
    """SPRAM and a register. Latency 2 cycles; a read or a write a cycle. Starts undefined.

    Members as those of `BlockMemory`, but nothing is read in a cycle with `write`: its data is undefined; and it reads
    in every other, whatever `read` is.
    """

    def __init__(self, target: Target, width: int, depth: int) -> None:
        if target == ICE40UP:
            bank_depth, widest = SPRAM
            full, rest = divmod(width, widest)
            super().__init__(_SPRAM, width, depth, (widest,) * full + (rest,) * (rest > 0), bank_depth)
        else:
            super().__init__(_SinglePort, width, depth, (width,), depth)


def words_memory(target: Target, width: int, depth: int) -> _Blocks:
    """A `BlockMemory`, or one like it in LUTs where that is better."""
    return (_ShallowMemory if target.in_luts(depth) else BlockMemory)(target, width, depth)


def small_memory(target: Target, width: int, depth: int) -> Memory:
    """A memory of some hundred bits, latency 1 cycle, starts with zeros: in LUTs, or in block RAM where LUTs hold none,
    which synthesis would rather make of registers, or it is not that small."""
    style = "block" if target.small_in_blocks(width, depth) else "distributed"
    # The smallest are left to synthesis, which may make them of registers.
    chosen = style == "block" or (target.blocks and width * depth > 512)
    return Memory(shape=width, depth=depth, init=[], attrs={"ram_style": style} if chosen else {})
