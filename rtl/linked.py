"""The chip behind its end of the link, and a watchdog beside it."""

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.chip import Chip
from locallearn.rtl.link import Link
from locallearn.rtl.target import GENERIC, Target
from locallearn.rtl.watchdog import Watchdog

__all__ = ["LINK_BYTES", "LinkedChip"]

LINK_BYTES = 4096
"""That hold samples for as long as a host is late."""


class LinkedChip(wiring.Component):
    """A network that learns, behind two streams of bytes: frames, see `quant/frames.py`.

    link_bytes  as `Link` takes them

    i     bytes from the host, always taken
    o     bytes to the host
    idle  without further input nothing more happens
    """

    def __init__(self, spec: NetworkSpec, target: Target = GENERIC, link_bytes: int = LINK_BYTES) -> None:
        self._spec = spec
        self._target = target
        self._bytes = link_bytes
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.link = link = Link(self._target, self._bytes)
        m.submodules.chip = chip = Chip(self._spec, self._target)
        m.submodules.watchdog = watchdog = Watchdog()
        wiring.connect(m, wiring.flipped(self.i), link.i)
        wiring.connect(m, link.o, wiring.flipped(self.o))
        wiring.connect(m, link.to_chip, chip.i)
        wiring.connect(m, chip.o, link.from_chip)
        # What waits for the host, in the middle of a packet or with an answer, does not hang.
        hungry = chip.packet & chip.i.ready & ~chip.i.valid
        m.d.comb += [
            chip.abort.eq(link.abort),
            chip.bad.eq(link.bad),
            chip.missed.eq(link.missed),
            link.at_rest.eq(chip.idle),
            link.stuck.eq(watchdog.stuck),
            self.idle.eq(link.idle & chip.idle),
        ]
        m.d.sync += [
            watchdog.work.eq(~chip.idle & ~hungry & ~(chip.o.valid & ~chip.o.ready)),
            watchdog.moves.eq((chip.i.valid & chip.i.ready) | (chip.o.valid & chip.o.ready)),
        ]
        return m
