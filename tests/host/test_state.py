"""What is read of one device and written to another: there the network learns on as if nothing had happened."""

from dataclasses import fields, replace

import numpy as np
import pytest

from locallearn.host.connect import connect
from locallearn.host.device import Counters, Device
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.network import LayerCounters
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.quant.state import State
from tests.compare import assert_same

LEARNED = ClassifierSpec("learned", rate_shift=4)
SPEC = NetworkSpec(
    "state",
    5,
    InputSpec(36, shape=(1, 6, 6)),
    (
        ConvSpec(6, pool=1, resolution=2, lanes=4, classifier=LEARNED),
        LayerSpec(12, 5, classifier=LEARNED, dropout=0.25),
        LayerSpec(8, 3, dropout=0.5),
    ),
    training=TrainingSpec(5, (0, 0.5)),
)
SAMPLES = 90
DECAY = (0.5,) * len(SPEC.layers)


def assert_same_state(where: str, expected: State, actual: State) -> None:
    for number, (ours, theirs) in enumerate(zip(expected.arrays, actual.arrays, strict=True)):
        assert_same(f"{where} array {number}", ours, theirs)
    for name in ("noise", "matrix_noise", "masks"):
        assert_same(f"{where} {name}", getattr(expected, name), getattr(actual, name))


def learn(device: Device, part: slice) -> Counters:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (SAMPLES, 36), np.uint8), rng.integers(0, 5, SAMPLES)
    device.set_decay(DECAY)
    device.clear_counters()
    device.stream(x[part], y[part])
    return device.counters()


@pytest.fixture(scope="module")
def whole() -> tuple[State, Counters]:
    """After all samples on one device."""
    with connect(SPEC, "numpy") as device:
        counters = learn(device, slice(SAMPLES))
        return device.read_state(), counters


@pytest.mark.parametrize(
    "devices", [("numpy", "model", "numpy"), ("model", "sim", "model"), ("sim", "numpy", "sim")], ids=" ".join
)
def test_goes_on_elsewhere(whole: tuple[State, Counters], devices: tuple[str, ...]) -> None:
    """All registers move: a convolution, dropout and learned classifiers are there."""
    expected, expected_counters = whole
    state, counters = None, []
    for number, name in enumerate(devices):
        with connect(SPEC, name) as device:
            device.reset()
            if state is None:
                assert_same_state("at first", device.plan.initial_state(), device.read_state())
            else:
                device.write_state(state)
                assert_same_state(f"on {name}", state, device.read_state())
            counters.append(learn(device, slice(30 * number, 30 * number + 30)))
            state = device.read_state()
    assert state is not None
    assert_same_state("at last", expected, state)

    total = counters[0] + counters[1] + counters[2]
    assert (total.samples, total.layers) == (SAMPLES, expected_counters.layers)


def test_state_is_a_copy() -> None:
    with connect(SPEC, "model") as device:
        before = device.read_state()
        learn(device, slice(30))
        assert_same_state("later", device.plan.initial_state(), before)


def test_sum_of_counters() -> None:
    one = Counters(3, [LayerCounters(events=5), LayerCounters(saturated=1)], 100, 0, [1, 2], [3, 4], [5, 6])
    other = Counters(4, [LayerCounters(events=6), LayerCounters()], 10, 1, [1, 1], [1, 1], [1, 1])
    layers = [LayerCounters(events=11), LayerCounters(saturated=1)]
    assert one + other == Counters(7, layers, 110, 1, [2, 3], [4, 5], [6, 7])
    # A model has no cycles: of the two together nobody knows them.
    timing = {each.name: None for each in fields(Counters) if each.name not in ("samples", "layers")}
    assert one + replace(other, **timing) == replace(one + other, **timing)
