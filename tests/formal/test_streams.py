"""The rules of streams, at every stream of the chip: an offer stays until it is taken, and never waits to be asked for.

All proofs are for all time, by induction; that `valid` does not depend on `ready` in the same cycle is shown on the
netlist, where no path leads from one to the other.
"""

from pathlib import Path
from typing import Any

import pytest
from amaranth import Signal
from amaranth.lib import wiring

from locallearn.quant.layer_plan import SAMPLES_HELD
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.access import AccessUnit
from locallearn.rtl.decoder import PacketDecoder
from locallearn.rtl.readout import Readout
from locallearn.rtl.results import ResultEncoder
from tests.formal.properties import assume_kept, assume_stream, claim_kept, claim_stream
from tests.formal.prove import Claims, prove, prove_no_path

_NETWORK = NetworkPlan(NetworkSpec("formal", 3, InputSpec(5), (LayerSpec(3, 2), LayerSpec(2, 1))))
_LAYER = _NETWORK.layers[0]


def test_decoder(tmp_path: Path) -> None:
    """The events and the requests of the decoder; unbounded."""

    def state(claims: Claims) -> None:
        decoder = claims.dut
        assume_stream(claims, decoder.i)
        claim_stream(claims, "event", decoder.o)
        claim_stream(claims, "access", decoder.access)
        claim_kept(claims, "write", decoder.access.valid, decoder.access.ready, decoder.write, decoder.check)

    prove(PacketDecoder(_NETWORK), state, tmp_path)


def test_data_of_a_write(tmp_path: Path) -> None:
    """Bytes offered during an access stay until taken or until the access is done, which withdraws them; unbounded."""

    def state(claims: Claims) -> None:
        decoder = claims.dut
        assume_stream(claims, decoder.i)
        done = decoder.access.valid & decoder.access.ready
        claim_kept(claims, "data", decoder.data.valid, decoder.data.ready | done, decoder.data.payload)
        claims.require("withdrawn", ~(claims.past(done) & decoder.data.valid))
        claims.require("during_an_access", ~decoder.data.valid | decoder.access.valid)
        claims.reach("data_taken", decoder.data.valid & decoder.data.ready)
        claims.reach("data_withdrawn", claims.past(decoder.data.valid & done & ~decoder.data.ready))

    prove(PacketDecoder(_NETWORK), state, tmp_path)


def test_access(tmp_path: Path) -> None:
    """The bytes that answer, and each request for an element, whose fields stay until it is done; unbounded."""

    def state(claims: Claims) -> None:
        unit, access = claims.dut, claims.dut.access
        assume_kept(claims, unit.i.valid, unit.i.ready, unit.i.payload, unit.write, unit.check)
        claims.assume(~(unit.write & unit.check))
        # A packet is offered as long as the unit works on it: in all states but the first.
        claims.require("working", claims.state(unit, "access_phase", "Idle") | unit.i.valid)
        claim_stream(claims, "answer", unit.o)

        waiting = Signal()
        with claims.m.If(access.request | access.done):
            claims.m.d.sync += waiting.eq(~access.done)
        claims.assume(~access.done | waiting)
        claims.require("waiting", ~waiting | claims.state(unit, "access_phase", "Wait"))
        asked = access.request | waiting
        claim_kept(claims, "fields", asked, access.done, unit.layer, access.write, access.kind, access.row, access.lane)
        claim_kept(claims, "data", asked & access.write, access.done, access.data)
        claims.require("one_request_at_a_time", ~(access.request & waiting))
        claims.reach("request", access.request)
        claims.reach("done", access.done)

    prove(AccessUnit(_NETWORK), state, tmp_path, 4)


def test_results(tmp_path: Path) -> None:
    """The packets of results; none leaves before all layers' results are there; unbounded."""

    def state(claims: Claims) -> None:
        encoder = claims.dut
        first, last = encoder.i
        for layer in encoder.i:
            assume_stream(claims, layer)
        # The last layer's result is the last to arrive.
        ahead = Signal(range(4 * SAMPLES_HELD))
        claims.m.d.sync += ahead.eq(ahead + (first.valid & first.ready) - (last.valid & last.ready))
        claims.assume(~last.valid | (ahead != 0))
        claim_stream(claims, "packet", encoder.o)
        claims.require("ends_with_a_byte", ~encoder.sent | (encoder.o.valid & encoder.o.ready))

        waiting = [claims.part(encoder, f"waiting_{i}") for i in range(2)]
        claims.require("all_there", ~encoder.o.valid | waiting[0].r_rdy)
        claims.require("ahead", waiting[0].level == waiting[1].level + ahead)
        for i, queue in enumerate(waiting):
            stored = claims.local(queue, "inner_level")
            claims.require(f"level_{i}", (queue.level == stored + queue.r_rdy) & (stored < queue.depth))
        claims.reach("sent", encoder.sent)

    prove(ResultEncoder(_NETWORK), state, tmp_path)


def test_readout(tmp_path: Path) -> None:
    """A layer's activations; unbounded."""
    prove(Readout(_LAYER, _LAYER.neurons), lambda claims: claim_stream(claims, "activation", claims.dut.o), tmp_path)


@pytest.mark.parametrize(
    "component, stream",
    [
        (PacketDecoder(_NETWORK), "o"),
        (PacketDecoder(_NETWORK), "access"),
        (PacketDecoder(_NETWORK), "data"),
        (AccessUnit(_NETWORK), "o"),
        (ResultEncoder(_NETWORK), "o"),
        (Readout(_LAYER, _LAYER.neurons), "o"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_valid_does_not_wait(component: "wiring.Component[Any]", stream: str, tmp_path: Path) -> None:
    prove_no_path(component, f"{stream}__ready", f"{stream}__valid", tmp_path)
