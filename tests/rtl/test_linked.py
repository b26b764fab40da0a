"""The chip behind its link: what the watchdog there takes for a chip that hangs, and what not."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.host.device import ChipDevice
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError
from locallearn.quant.packets import encode_samples
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl import linked
from locallearn.rtl.watchdog import Watchdog
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip

SPEC = NetworkSpec("tiny", 3, InputSpec(9), (LayerSpec(4, lanes=2),))

PATIENCE_BITS = 12
"""Cycles, in place of millions: the simulator passes as many in a thousandth of a second."""


class Hanging(wiring.Component):
    """Takes a packet's first byte, and no other."""

    def __init__(self, spec: NetworkSpec, target: object) -> None:
        byte = stream.Signature(8)
        outputs = {"packet": Out(1), "idle": Out(1)}
        super().__init__({"i": In(byte), "o": Out(byte)} | outputs | {n: In(1) for n in ("abort", "bad", "missed")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [self.i.ready.eq(~self.packet), self.idle.eq(~self.packet)]
        with m.If(self.i.valid):
            m.d.sync += self.packet.eq(1)
        return m


def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedChip]:
    monkeypatch.setattr(linked, "Watchdog", partial(Watchdog, PATIENCE_BITS))
    with SimulatedChip(to_verilog(linked.LinkedChip(SPEC, link_bytes=1024)), optimise=False) as chip:
        yield chip


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedChip]:
    yield from simulated(monkeypatch)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedChip]:
    monkeypatch.setattr(linked, "Chip", Hanging)
    yield from simulated(monkeypatch)


def test_waiting_for_the_host_is_not_hanging(waiting: SimulatedChip) -> None:
    """In the middle of a sample, and of an answer that the host does not take."""
    pixels = np.ones((1, 9), np.uint8)
    packet, _ = encode_samples(pixels, None)
    with Link(waiting.url) as link:
        device = ChipDevice(SPEC, link)
        device.reset()
        link.write(packet[:4])
        begin = link.counters.silences
        while link.counters.silences < begin + 3:
            link._exchange()
        link.write(packet[4:])
        # Opcode, and the only layer's record.
        assert len(link.read(device._result_size)) == device._result_size
        assert device.counters().cycles > 10 << PATIENCE_BITS


def test_hanging_is_said(hanging: SimulatedChip) -> None:
    message = "the chip's watchdog: work is left and nothing moves"
    with Link(hanging.url) as link, pytest.raises(DeviceError, match=message):
        link.write(b"ab")
        link.read(1)
    # And to whoever comes next: there is no session, as the chip never comes to rest.
    with pytest.raises(DeviceError, match="the chip's watchdog"):
        Link(hanging.url)
