"""verify: equal where all is well, and the place of a difference where it is not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from locallearn.host.device import ChipDevice
from locallearn.host.link import Link
from locallearn.host.verify import verify
from locallearn.quant.registers import Kind
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip

SPEC = NetworkSpec("small", 5, InputSpec(12), (LayerSpec(9, lanes=4), LayerSpec(6, lanes=3, rate_shift=6)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SimulatedChip(chip_verilog(SPEC), optimise=False) as chip:
        yield chip.url


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (count, 12)) * (rng.random((count, 12)) < 0.5)
    return pixels.astype(np.uint8), rng.integers(0, 5, count)


class Damaged(ChipDevice):
    """A chip that has one thing wrong after it was reset."""

    damage: tuple[int, Kind, int, int]  # layer, region, row, lane

    def reset(self) -> None:
        super().reset()
        layer, kind, row, lane = self.damage
        rows = self.read(layer, kind)
        rows[row, lane] ^= 1
        self.write(layer, kind, rows)


class Deaf(ChipDevice):
    """A chip that does not hear where samples are to stop."""

    def set_exits(self, leads: Sequence[int]) -> None:
        super().set_exits(self.plan.no_exits)


def test_equal(url: str) -> None:
    with ChipDevice(SPEC, Link(url)) as device:
        done: list[int] = []
        summary = verify(device, *samples(30), progress=done.append)
    assert summary == {"samples": 30, "equal": True, "first_difference": None}
    assert done == list(range(31))


def test_equal_where_samples_stop() -> None:
    spec = SPEC.replaced({"early_exit": True, "layers.*.score_shift": 0})
    with SimulatedChip(chip_verilog(spec), optimise=False) as chip:
        with ChipDevice(spec, Link(chip.url)) as device:
            assert verify(device, *samples(40))["equal"]
            assert set(device.stream(samples(40)[0], None).answered) == {0, 1}
        with Deaf(spec, Link(chip.url)) as deaf:
            difference = verify(deaf, *samples(40))["first_difference"]
    # The first that stops: the chip lets it go on.
    assert difference["what"] == "answered"
    assert (difference["layer"], difference["expected"], difference["actual"]) == (0, 0, 1)


def test_names_a_wrong_weight(url: str) -> None:
    """Row 15 of layer 0 is group 1, input 2; lane 3 is its last neuron. The weight only matters once it is read."""
    with Damaged(SPEC, Link(url)) as device:
        device.damage = (0, Kind.WEIGHTS, 15, 3)
        pixels, labels = samples(5)
        pixels[:, 2] = 0
        difference = verify(device, pixels, labels)["first_difference"]
    assert {k: difference[k] for k in ("sample", "layer", "what", "index")} == {
        "sample": 0,
        "layer": 0,
        "what": "weights",
        "index": [7, 2],
    }
    assert difference["actual"] == difference["expected"] ^ 1
    assert difference["cycle"] > 0


def test_names_a_wrong_noise_state(url: str) -> None:
    with Damaged(SPEC, Link(url)) as device:
        device.damage = (1, Kind.NOISE_STATE, 0, 0)
        summary = verify(device, *samples(5))
    assert not summary["equal"]
    assert (summary["first_difference"]["layer"], summary["first_difference"]["what"]) in ((1, "weights"), (1, "noise"))


def test_names_a_wrong_classifier(url: str) -> None:
    with Damaged(SPEC, Link(url)) as device:
        device.damage = (0, Kind.CLASSIFIER_SEED, 0, 0)
        difference = verify(device, *samples(20))["first_difference"]
    # The first sign of the first neuron is wrong, so the score of class 0.
    assert (difference["layer"], difference["what"], difference["index"]) == (0, "scores", [0])


def test_another_seed_needs_no_other_chip(url: str) -> None:
    other = replace(SPEC, training=replace(SPEC.training, seed=99))
    with ChipDevice(other, Link(url)) as device:
        assert verify(device, *samples(8))["equal"]


def test_regions_that_can_only_be_read(url: str) -> None:
    with ChipDevice(SPEC, Link(url)) as device, pytest.raises(ValueError, match="SCORES can only be read"):
        device.write(0, Kind.SCORES, np.zeros(5, np.int64))
