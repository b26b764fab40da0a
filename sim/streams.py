"""Both ends of a stream in a cocotb bench: they offer and take payloads at any pace, and check the stream's rules.

A source pauses between payloads (idle insertion), a sink between transfers (backpressure), both as their pace
says. Payloads are plain Python values by the block's own layout, see `pack`.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import cocotb
from amaranth import Shape
from amaranth.hdl import ShapeLike
from amaranth.lib import data
from cocotb.triggers import RisingEdge

from locallearn.sim.bench import cycle

__all__ = ["IDLE", "STALLS", "Pace", "Received", "Sink", "Source", "pace", "pack", "unpack"]

_PATIENCE = 2000
"""Cycles without a transfer after which a stream counts as stuck."""


# -- payloads ----------------------------------------------------------------------------------------------


def pack(shape: ShapeLike, value: Any) -> int:
    """The bits of a value: a dict for a structure (all fields), a sequence for an array, else an integer.

    Raises ValueError if the value does not fit.
    """
    if isinstance(shape, data.Layout):
        keys = [key for key, _ in shape]
        given = list(value) if isinstance(value, dict) else list(range(len(value)))
        if sorted(given, key=str) != sorted(keys, key=str):
            raise ValueError(f"fields {given} given, {keys} needed")
        return sum(pack(field.shape, value[key]) << field.offset for key, field in shape)
    plain = Shape.cast(shape)
    low = -(1 << plain.width >> 1) if plain.signed else 0
    if not low <= value < low + (1 << plain.width):
        raise ValueError(f"{value} does not fit {plain!r}")
    return int(value) & ((1 << plain.width) - 1)


def unpack(shape: ShapeLike, bits: int) -> Any:
    """The inverse of `pack`, with a list for an array."""
    if isinstance(shape, data.Layout):
        fields = {key: unpack(field.shape, bits >> field.offset) for key, field in shape}
        return list(fields.values()) if isinstance(shape, data.ArrayLayout) else fields
    plain = Shape.cast(shape)
    bits &= (1 << plain.width) - 1
    return bits - (1 << plain.width) if plain.signed and bits >> (plain.width - 1) else bits


# -- paces -------------------------------------------------------------------------------------------------

Pace = Callable[[bool], bool]
"""Called once a cycle: whether this end of a stream is willing in the next. It is told if a payload is waiting
for a sink, which only the reluctant look at."""

_TURNS: dict[str, Callable[[Random], Iterator[bool]]] = {
    "steady": lambda rng: itertools.repeat(True),
    "alternate": lambda rng: itertools.cycle((True, False)),
    "random": lambda rng: (rng.random() < 0.5 for _ in itertools.count()),
    "bursts": lambda rng: (turn for turn in itertools.cycle((True, False)) for _ in range(rng.randint(1, 12))),
    "rare": lambda rng: (rng.random() < 0.1 for _ in itertools.count()),
}

IDLE = tuple(_TURNS)
"""Paces for sources."""

STALLS = (*IDLE, "reluctant")
"""Paces for sinks. The reluctant one is ready only after it has seen a payload waiting: a block whose `valid`
waits for `ready` never gets past it."""


def pace(kind: str, seed: int) -> Pace:
    """One of IDLE or STALLS."""
    if kind == "reluctant":
        turns = _TURNS["random"](Random(seed))
        return lambda waiting: waiting and next(turns)
    turns = _TURNS[kind](Random(seed))
    return lambda waiting: next(turns)


# -- the two ends ------------------------------------------------------------------------------------------


class _Stream:
    """The block's stream `name`, whose payloads are of `layout`, at a pace."""

    def __init__(self, dut: Any, name: str, layout: ShapeLike, pace: Pace) -> None:
        self._name, self._layout, self._pace = name, layout, pace
        self._clk = dut.clk
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")


class Source(_Stream):
    """Offers payloads to the block's input stream `name`, in the background. Create it after `start`.

    While nothing is valid the payload is random: a block that looks at it regardless gives itself away.
    """

    def __init__(self, dut: Any, name: str, layout: ShapeLike, pace: Pace) -> None:
        super().__init__(dut, name, layout, pace)
        self._queue: deque[int] = deque()
        self._offering = False
        self._noise = Random(name)
        self._width = Shape.cast(layout).width
        cocotb.start_soon(self._run())

    def send(self, payloads: Iterable[Any]) -> None:
        """Offer these after all that were given before."""
        self._queue.extend(pack(self._layout, payload) for payload in payloads)

    @property
    def pending(self) -> int:
        """Payloads not yet taken by the block."""
        return len(self._queue) + self._offering

    async def drained(self) -> None:
        """Until the block has taken everything. AssertionError if it stops taking."""
        left, since = self.pending, cycle()
        while self.pending:
            await RisingEdge(self._clk)
            if self.pending != left:
                left, since = self.pending, cycle()
            assert cycle() - since < _PATIENCE, f"{self._name}: {left} payloads not taken since cycle {since}"

    async def _run(self) -> None:
        valid = False
        while True:
            await RisingEdge(self._clk)
            if self._offering and self._ready.value:
                self._offering = False
            if not self._offering:
                willing = self._pace(False)
                self._offering = willing and bool(self._queue)
                self._payload.value = self._queue.popleft() if self._offering else self._noise.getrandbits(self._width)
                if valid != self._offering:
                    self._valid.value = valid = self._offering


@dataclass(frozen=True)
class Received:
    """A payload and the cycle at whose end it was transferred."""

    cycle: int
    payload: Any


class Sink(_Stream):
    """Takes payloads from the block's output stream `name`, in the background. Create it after `start`.

    A payload that changes or is withdrawn while the block waits for `ready` fails the test.
    """

    def __init__(self, dut: Any, name: str, layout: ShapeLike, pace: Pace) -> None:
        super().__init__(dut, name, layout, pace)
        self.received: list[Received] = []
        self._compared = 0
        cocotb.start_soon(self._run())

    async def expect(self, payloads: Sequence[Any]) -> None:
        """Until as many more payloads were received; each must be the one given here."""
        since = cycle()
        for number, expected in enumerate(payloads):
            while self._compared == len(self.received):
                assert cycle() - since < _PATIENCE, (
                    f"{self._name}: {number} of {len(payloads)} payloads, no more since cycle {since}; "
                    f"expected next {expected}"
                )
                await RisingEdge(self._clk)
            actual = self.received[self._compared]
            self._compared += 1
            since = actual.cycle
            assert actual.payload == expected, (
                f"{self._name}[{number}] in cycle {actual.cycle}: expected {expected}, actual {actual.payload}"
            )

    def expect_nothing_more(self) -> None:
        """Nothing came beyond what was expected."""
        more = self.received[self._compared :]
        assert not more, f"{self._name}: expected nothing more, actual {more[0].payload} in cycle {more[0].cycle}"

    async def _run(self) -> None:
        ready, held = False, None
        self._ready.value = 0
        while True:
            await RisingEdge(self._clk)
            offered = int(self._payload.value) if self._valid.value else None
            if held is not None and offered != held:
                actual = "withdrawn" if offered is None else f"changed to {unpack(self._layout, offered)}"
                raise AssertionError(
                    f"{self._name} in cycle {cycle()}: {unpack(self._layout, held)} was {actual} before it was taken"
                )
            if offered is not None and ready:
                self.received.append(Received(cycle(), unpack(self._layout, offered)))
            held = None if ready else offered
            if ready != (willing := self._pace(held is not None)):
                self._ready.value = ready = willing
