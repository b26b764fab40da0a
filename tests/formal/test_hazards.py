"""Memories of a layer that are read and written at once: no word that counts is read in the cycle it is written in.

Synthesis relies on it, and leaves out what would decide such a case.
"""

from itertools import combinations
from pathlib import Path

import pytest
from amaranth import Cat, Value

from locallearn.quant.formats import QFormat
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.dense import DenseLayer
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.rtl.timing import EVENT, PRODUCT, ROW, WRITTEN
from tests.formal.prove import Claims, prove

_NETWORK = NetworkPlan(
    NetworkSpec(
        "formal",
        2,
        InputSpec(2, 1, 1),
        (LayerSpec(4, 2),),
        activation=QFormat(1, 1),
        weight=QFormat(2, 1, signed=True),
        error_bits=2,
        noise_bits=1,
        training=TrainingSpec(2),
    )
)
_PLAN = _NETWORK.layers[0]
"""Four neurons on two lanes, and as narrow as can be: the proofs are about when, not about what."""

_READ = ROW + 1
"""The cycle after its issue in which a row's address is at the weight memory."""

_LATER = PRODUCT - _READ
"""Cycles from a row's read until its product is added, or makes a change; if neither, it was read in vain."""


class Walk:
    """What the sequencer has issued, and a layer of which only the order of things is left.

    Everything that computes is cut out; what it tells the rest may be anything. What is assumed of it:
    - the buffer's oldest sample stays until it is released, and different events of it have different indices
    - a sample is read out after it has been walked over
    """

    def __init__(self, claims: Claims, target: Target) -> None:
        self._claims, self._layer = claims, claims.dut
        self._part = {name: claims.part(self._layer, name) for name in ("buffer", "sequencer", "readout", "bank_0")}
        self.memory = claims.part(self._part["bank_0"], "memory")
        for name in ("buffer", "readout", "error", "classifier", "noise", "counters"):
            claims.cut(claims.part(self._layer, name))
        for part in (self.memory, *(claims.part(self._part["bank_0"], f"lane_{i}") for i in range(_PLAN.lanes))):
            claims.cut(part)
        claims.assume(~self._layer.access.request)
        claims.require("no_access", ~self._layer._accessed)
        for name in ("fetch", "store"):
            claims.require(f"no_{name}", ~Cat(claims.local(self._layer, name).values()).any())

        self.write = WRITTEN
        self._stages = range(1, self.write + 1)
        buffer, sequencer = self._part["buffer"], self._part["sequencer"]
        self.valid, self._token = claims.local(self._layer, "valid"), claims.local(self._layer, "token")
        self._place = claims.history(self.place(sequencer.address), self.write)
        self._index = dict(enumerate(claims.history(buffer.event.index, self.write - EVENT), EVENT))
        self.address = claims.history(self.memory.address, self.write - _READ + _LATER)
        self.learning = claims.local(sequencer, "learning")
        self._assume()
        self._order(target)
        self._rows()

    def place(self, address: Value) -> Value:
        """Of an event in the oldest sample."""
        return (address - self._part["buffer"].start)[: _PLAN.event_address_bits]

    def _assume(self) -> None:
        claims, buffer, readout = self._claims, self._part["buffer"], self._part["readout"]
        forwarded = claims.local(self._part["sequencer"], "forwarded")
        # The buffer.
        oldest = buffer.samples[0]
        held = claims.past((buffer.held != 0) & ~buffer.release)
        same = Cat(value == claims.past(value) for value in (buffer.start, oldest.before, oldest.alone)).all()
        claims.assume(~held | (same & (buffer.held != 0)))
        claims.assume(oldest.alone == (self.place(oldest.before + 1) == 0))
        claims.assume(buffer.held >= forwarded)
        claims.assume(buffer.event.index < _PLAN.fan_in)
        for early, late in combinations(range(EVENT, self.write + 1), 2):
            learning = self.valid[early] & self.valid[late] & self.learning
            same_group = self._token[early].base == self._token[late].base
            other = self._place[early] != self._place[late]
            claims.assume(~(learning & same_group & other) | (self._index[early] != self._index[late]))
        # The readout.
        claims.assume(~(readout.o.valid & readout.o.payload.last) | (forwarded > buffer.release))

    def _order(self, target: Target) -> None:
        """Rows are learned in order, none twice; and nothing else is under way meanwhile."""
        claims, buffer, sequencer = self._claims, self._part["buffer"], self._part["sequencer"]
        base, group, begin, before, walking, last, single, forwarded = (
            claims.local(sequencer, name)
            for name in ("base", "group", "begin", "before", "walking", "last", "single", "forwarded")
        )
        judge = {name: claims.state(self._layer, "judge", name) for name in ("Read out", "Learn")}
        phase = {name: claims.state(sequencer, "phase", name) for name in ("Forward", "Turn back", "Learn", "Settle")}
        learn, release = sequencer.learn, buffer.release
        claims.require("group", (group < _PLAN.groups) & (base == group * _PLAN.fan_in))
        claims.require("last_group", claims.local(sequencer, "last_group") == (group == _PLAN.groups - 1))
        claims.require("learning", self.learning == ~phase["Forward"])
        claims.require("judge", judge["Learn"] == (learn | self.learning))
        claims.require("learn", ~learn | phase["Forward"])
        claims.require("release", ~release | judge["Read out"])
        claims.require("forwarded", judge["Read out"] | (forwarded != 0))
        claims.require("ahead", (forwarded <= 2) & (~walking | self.learning | (forwarded < 2)))
        claims.require("released", ~release | (forwarded != 0))
        for i in self._stages:
            claims.require(f"either_{i}", ~self.valid[i] | (self._token[i].learn == self.learning))
            bases = Cat(self._token[i].base == group * _PLAN.fan_in for group in range(_PLAN.groups))
            claims.require(f"base_{i}", ~self.valid[i] | bases.any())
            claims.require(f"turned_back_{i}", ~(phase["Turn back"] & self.valid[i]))
        # A walk.
        here, there = self.place(sequencer.address), self.place(before + 1)
        oldest = buffer.samples[0]
        claims.require("turn", ~phase["Turn back"] | ((sequencer.address == buffer.start) & (group == 0) & ~walking))
        claims.require("begin", ~(phase["Learn"] | phase["Settle"]) | (begin == buffer.start))
        claims.require("end", ~phase["Learn"] | ((before == oldest.before) & (single == oldest.alone)))
        claims.require("last", ~phase["Learn"] | (last == (here == there)))
        claims.require("within", ~phase["Learn"] | (here <= there))
        claims.require("start", ~phase["Learn"] | walking | (here == 0))
        claims.require("settled", ~phase["Settle"] | ~walking)
        if target.single_port_weights:
            for i in self._stages:
                turn = claims.local(sequencer, "turn")
                claims.require(f"turn_{i}", ~(self.learning & self.valid[i]) | (turn == (i % 2 == 0)))
        # Before what comes next, and before one another.
        for i in self._stages:
            order = (self._token[i].base < base) | ((self._token[i].base == base) & (self._place[i] < here))
            claims.require(f"passed_{i}", ~(phase["Learn"] & self.valid[i]) | order)
        for late, early in combinations(self._stages, 2):
            same_group = self._token[early].base == self._token[late].base
            order = (self._token[early].base < self._token[late].base) | (
                same_group & (self._place[early] < self._place[late])
            )
            claims.require(f"order_{early}_{late}", ~(self.learning & self.valid[early] & self.valid[late]) | order)

    def _rows(self) -> None:
        """Where the rows under way are, in the pipeline and at the memory, and what becomes of them there."""
        control = self._part["bank_0"].control
        for name, stage, learn in (("add", PRODUCT, 0), ("round", PRODUCT, 1), ("update", WRITTEN - 1, 1)):
            ordered = self.valid[stage] & (self._token[stage].learn == learn)
            self._claims.require(name, control[name] == ordered)
        for i in range(ROW, self.write + 1):
            self._claims.require(f"index_{i}", self._index[i] < _PLAN.fan_in)
            row = self._token[i].base + self._index[i]
            rows = [self._claims.local(self._layer, "row")[i]]
            rows += [self.address[i - _READ]] if i >= _READ else []
            for number, signal in enumerate(rows):
                self._claims.require(f"row_{i}_{number}", ~self.valid[i] | (signal == row))


@pytest.mark.parametrize("target", [GENERIC, SINGLE_PORT], ids=lambda target: target.name)
def test_weights(target: Target, tmp_path: Path) -> None:
    """No row is read between the read and the write of its own update, nor in the cycle of the write; unbounded.

    For banks of one: each further one does the same a cycle later. What is read in vain does not count.
    """

    def state(claims: Claims) -> None:
        walk = Walk(claims, target)
        memory, past = walk.memory, claims.past
        control = claims.part(claims.dut, "bank_0").control
        update = walk.write - _READ
        used = claims.history(control.add | control.round, update)
        written, where = past(memory.write, _LATER), past(memory.write_address, _LATER)
        for cycles in range(update):
            again = written & (walk.address[_LATER + cycles] == where)
            claims.require(f"not_read_{cycles}_cycles_before", ~(again & used[cycles]))
        own = (walk.address[update] == memory.write_address) & used[update - _LATER]
        claims.require("written_is_what_was_read", ~memory.write | own)
        if target.single_port_weights:
            claims.require("read_or_written", ~(written & used[0]))

    prove(DenseLayer(_NETWORK, 0, target), state, tmp_path, WRITTEN - _READ)
