"""The chip on a board: clock, serial port and lights around it."""

from math import ceil, log2
from typing import Any

from amaranth import ClockDomain, Module, Signal
from amaranth.build import Platform, ResourceError
from amaranth.hdl import Elaboratable
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from locallearn.fpga.boards import Board
from locallearn.fpga.flows import FLOWS
from locallearn.fpga.pll import ClockGenerator, PllClock, best_clock
from locallearn.quant.errors import BuildError
from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.linked import LinkedChip
from locallearn.rtl.target import Target
from locallearn.rtl.uart import MIN_CYCLES, UartReceiver, UartTransmitter

__all__ = ["LIGHTS", "BoardTop", "SerialChip", "board_clock"]

LIGHTS = ("lost", "alive", "busy", "receiving")
"""What a board's LEDs show, in their order, as far as it has them."""


class SerialChip(wiring.Component):
    """The chip behind a serial port.

    rx         the wire from the host, 1 at rest
    tx         the wire to the host, 1 at rest
    lost       some byte was lost since the start: it had no stop bit, as at another rate
    alive      blinks about once a second
    busy       something is in flight
    receiving  a byte has come lately
    """

    def __init__(self, spec: NetworkSpec, target: Target, clock_hz: float, baud: int, link_bytes: int) -> None:
        self._spec = spec
        self._target = target
        self._clock_hz = clock_hz
        self._baud = baud
        self._link_bytes = link_bytes
        super().__init__({"rx": In(1), "tx": Out(1)} | {light: Out(1) for light in LIGHTS})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._clock_hz, self._baud)
        m.submodules.chip = chip = LinkedChip(self._spec, self._target, self._link_bytes)
        m.submodules.transmitter = transmitter = UartTransmitter(self._clock_hz, self._baud)
        wiring.connect(m, receiver.o, chip.i)
        wiring.connect(m, chip.o, transmitter.i)
        time = Signal(ceil(log2(self._clock_hz)))
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            self.alive.eq(time[-1]),
            self.busy.eq(~chip.idle),
        ]
        m.d.sync += [time.eq(time + 1), self.lost.eq(self.lost | receiver.lost)]
        # In this sixteenth of a blink, or the one before.
        lately = Signal()
        with m.If(time[:-4] == 0):
            m.d.sync += [self.receiving.eq(lately), lately.eq(0)]
        with m.If(receiver.o.valid):
            m.d.sync += [self.receiving.eq(1), lately.eq(1)]
        return m


def board_clock(board: Board, clock_hz: float) -> PllClock:
    """The fastest clock of at most `clock_hz` that the board makes.

    Raises BuildError if there is none, or if it is too slow for the board's serial port; ToolError as
    `Board.platform` does.
    """
    clock = best_clock(board.pll, board.platform().default_clk_frequency, clock_hz)
    slowest = MIN_CYCLES * board.baud
    if clock.hz < slowest:
        raise BuildError(
            f"{board.name}: a clock of {clock.hz / 1e6:g} MHz is too slow for its serial port of {board.baud} baud, "
            f"which needs {slowest / 1e6:g} MHz"
        )
    return clock


class BoardTop(Elaboratable):
    """The chip of `spec` on the pins of `board`, at `board_clock`, which raises its errors here."""

    def __init__(self, spec: NetworkSpec, board: Board, clock_hz: float) -> None:
        self._spec = spec
        self._board = board
        self._clock = board_clock(board, clock_hz)

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        board, clock = self._board, self._clock
        m.domains.sync = ClockDomain()
        m.submodules.clock = ClockGenerator(board.pll, clock, FLOWS[board.target.name].haste)
        m.submodules.serial = serial = SerialChip(self._spec, board.target, clock.hz, board.baud, board.link_bytes)

        def pins(name: str, number: int) -> Any:
            return platform.request(name, number, dir="-")

        uart = pins("uart", 0)
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, uart.tx)
        m.d.comb += [serial.rx.eq(rx.i), tx.o.eq(serial.tx)]
        for number, light in enumerate(LIGHTS):
            try:
                led = pins("led", number)
            except ResourceError:
                break
            m.submodules[light] = buffer = io.Buffer(io.Direction.Output, led)
            m.d.comb += buffer.o.eq(getattr(serial, light))
        return m
