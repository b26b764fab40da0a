"""Bytes of all kinds into the simulated chip: noise on its line, damaged traffic, whole frames with nonsense in them.

None may hang it; what is damaged on the line may not change what it learns by a bit, and after any nonsense it learns
as the golden model again.
"""

import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.fast import FastNetwork
from locallearn.quant.frames import link_window
from locallearn.quant.packets import ACCESS, Opcode, encode_samples, pack
from locallearn.quant.registers import Kind, regions
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.sim.design import SIMULATED_LINK_BYTES, chip_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.compare import assert_same
from tests.noise import Noise
from tests.rtl.noisy_line import NoisyHost, connect

SPEC = NetworkSpec(
    "fuzz",
    3,
    InputSpec(9),
    (LayerSpec(7, lanes=3), LayerSpec(5, lanes=2, classifier=ClassifierSpec("learned"))),
    training=TrainingSpec(rate_shift=5, decay=(0, 2)),
)

_STALLED_S = 0.03
"""Without a byte either way: the chip waits for something, or talks to nobody."""


class Fuzz:
    """A chip, the model that learns what the chip should, and all that is done to both."""

    def __init__(self, chip: SimulatedChip, seed: int) -> None:
        self.rng = Random(seed)
        self.host = NoisyHost(connect(chip.url), self.rng)
        self.golden = ModelDevice(SPEC, FastNetwork)
        self.nonsense = 0
        self.ping()
        self.device.reset()

    @property
    def sent(self) -> int:
        """Bytes that went over the line."""
        return self.host.line_bytes

    def ping(self) -> None:
        """A new session on a good line; the chip says who it is. What was under way is given up."""
        self.host.noise = Noise()
        self.host.begin()
        self.host.open()
        self.device = ChipDevice(SPEC, self.host)

    def check(self) -> None:
        """All that was learned."""
        actual, expected = self.device.read_state(), self.golden.read_state()
        for number, (a, e) in enumerate(zip(actual.arrays, expected.arrays, strict=True)):
            assert_same(f"weights {number}", e, a)
        assert actual.noise == expected.noise and actual.matrix_noise == expected.matrix_noise
        assert self.device.counters().samples == self.golden.counters().samples

    # -- bursts

    def learn(self, count: int) -> None:
        """Samples, most of them with labels, whose results must be the model's."""
        rng = np.random.default_rng(self.rng.getrandbits(32))
        pixels = rng.integers(0, 256, (count, SPEC.input.size), np.uint8)
        pixels[rng.random(pixels.shape) < rng.choice([0, 0.5, 0.9])] = 0
        labels = None if rng.random() < 0.2 else rng.integers(0, SPEC.classes, count)
        expected = self.golden.stream(pixels, labels)
        actual = self.device.stream(pixels, labels)
        assert_same("predicted", expected.predicted, actual.predicted)
        assert_same("error", expected.error, actual.error)

    def random_bytes(self, size: int) -> None:
        """Between two halves of what is said in a session."""
        self.learn(20)
        special = bytes([0x7D, 0x7E])
        weights = [self.rng.choice([0, 1, 30])] * 256
        weights[0x7D] = weights[0x7E] = 30
        noise = (
            self.rng.randbytes(size)
            if self.rng.random() < 0.5
            else bytes(self.rng.choices(range(256), weights, k=size))
        )
        self.host.send(noise + special * self.rng.randrange(2))
        self.learn(20)

    def damaged_traffic(self, size: int) -> None:
        """Samples, reads and writes; then half a packet, with which the session ends."""
        end = self.sent + size
        rate = self.rng.choice([1e-4, 5e-4, 2e-3])
        self.host.noise = Noise(*(self.rng.choice([0, rate]) for _ in range(5)))
        while self.sent < end:
            kind = self.rng.random()
            if kind < 0.8:
                self.learn(self.rng.randint(1, 600))
            elif kind < 0.9:
                self.check()
            else:
                self.device.write_state(self.golden.read_state())
        self.host.noise = Noise()
        packet = self.rng.choice([self.sample, self.read, self.rewrite])()
        half = packet[: self.rng.randrange(len(packet))]
        self.host.end.write(half)
        self.host.settle(link_window(SIMULATED_LINK_BYTES))
        # A label without pixels, and all of a sample but its end, count as samples that were not learned from.
        if half and half[0] in (Opcode.INFER, Opcode.TRAIN):
            self.golden._samples += 1

    def nonsense_packets(self, size: int) -> None:
        """Random ones, and such as make sense but for some bytes."""
        packets = bytearray()
        while len(packets) < size:
            kind = self.rng.random()
            if kind < 0.1:
                packets += self.rng.randbytes(self.rng.randint(1, 60))
            else:
                packet = self.rng.choice([self.sample, self.sample, self.read, self.write])()
                damage = self.rng.choice([0, 0.01, 0.1])
                packets += Noise(*[damage / 4] * 4)(packet, self.rng)
        delivered = self.host.end.delivered
        self.host.end.write(bytes(packets))
        heard, since = self.host.end.counters.received, time.monotonic()
        before = None
        while time.monotonic() - since < _STALLED_S and self.host.end.counters.received < heard + 20 * size:
            self.host.exchange(wait=False)
            self.host.end.received.clear()
            now = (self.host.end.counters.received, self.host.end.counters.sent)
            if now != before:
                before, since = now, time.monotonic()
        # A READ of four billion rows is the last that it takes.
        self.nonsense += self.host.end.delivered - delivered

    def restore(self) -> None:
        """After nonsense nothing is known of the chip's state but that it can be written."""
        self.device.reset()
        self.golden.clear_counters()
        self.device.write_state(self.golden.read_state())
        self.learn(30)
        self.check()

    # -- packets

    def sample(self) -> bytes:
        pixels = np.array([[self.rng.choice([0, self.rng.randrange(256)]) for _ in range(SPEC.input.size)]], np.uint8)
        return encode_samples(pixels, np.array([self.rng.randrange(SPEC.classes)]))[0]

    def read(self) -> bytes:
        (layer, kind), region = self.rng.choice(list(regions(self.golden.plan).items()))
        return bytes([Opcode.READ]) + pack(ACCESS, layer=layer, kind=kind, row=0, rows=region.rows)

    def write(self) -> bytes:
        """Anything to anywhere that can be written; and to places that cannot."""
        (layer, kind), region = self.rng.choice(list(regions(self.golden.plan).items()))
        rows = self.rng.randint(1, region.rows)
        data = self.rng.randbytes(rows * region.lanes * region.size)
        return bytes([Opcode.WRITE]) + pack(ACCESS, layer=layer, kind=kind, row=0, rows=rows) + data

    def rewrite(self) -> bytes:
        """What is there already."""
        plan = self.golden.plan.layers[0]
        rows = plan.to_rows(self.golden.read_weights()[0])
        packet = bytes([Opcode.WRITE]) + pack(ACCESS, layer=0, kind=Kind.WEIGHTS, row=0, rows=len(rows))
        return packet + rows.astype("<i2").tobytes()


@pytest.fixture(scope="module")
def verilog() -> str:
    return chip_verilog(SPEC)


def run(verilog: str, cache: Path, seed: int, size: int) -> dict[str, int]:
    """At least so many bytes of each kind; how many it were. Of nonsense, bytes that the chip took."""
    sent = {"random": 0, "damaged": 0, "nonsense": 0}
    with SimulatedChip(verilog, cache_dir=cache) as chip:
        fuzz = Fuzz(chip, seed)
        try:
            while (kind := min(sent, key=lambda kind: sent[kind])) and sent[kind] < size:
                before, burst = fuzz.sent, fuzz.rng.randint(100, 12_000)
                if kind == "random":
                    fuzz.random_bytes(burst)
                elif kind == "damaged":
                    fuzz.damaged_traffic(burst)
                else:
                    fuzz.nonsense_packets(burst)
                sent[kind] = fuzz.nonsense if kind == "nonsense" else sent[kind] + fuzz.sent - before
                fuzz.ping()
                if kind == "nonsense":
                    fuzz.restore()
                fuzz.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {kind} after {sent}: {error}") from error
        finally:
            fuzz.host.line.close()
    return sent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulators")


def test_any_bytes(verilog: str, cache: Path) -> None:
    assert sum(run(verilog, cache, 1, 70_000).values()) >= 210_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_million_bytes(verilog: str, cache: Path) -> None:
    sent = run(verilog, cache, 2, 1_700_000)
    print(sent)
    assert sum(sent.values()) >= 5_000_000
