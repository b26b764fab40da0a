"""The follower learns what it is given, in that order."""

import numpy as np
import pytest

from locallearn.host.follower import Follower
from locallearn.quant.network import GoldenNetwork, quantise_pixels
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.quant.state import State
from tests.strategies import from_whole_range

SPEC = NetworkSpec("small", 5, InputSpec(12, 6, 6), (LayerSpec(9, lanes=4, rate_shift=5), LayerSpec(6, lanes=3)))


@pytest.mark.parametrize("given", [False, True])
def test_learns_what_it_is_given(given: bool) -> None:
    """From the seed's state or another."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 12), np.uint8), rng.integers(0, 5, 30)
    golden = GoldenNetwork(SPEC)
    if given:
        golden.state = State(from_whole_range(golden.plan, rng), [5, 6], [7, 8], [9, 10])
    start = golden.weights
    with Follower(SPEC, golden.state) as follower:
        for decay, part in ((0, slice(0, 7)), (0, slice(7, 7)), (3, slice(7, 20)), (1, slice(20, 30))):
            decays = (decay,) * len(SPEC.layers)
            follower.learn(pixels[part], labels[part], decays)
            if decay == 3:
                follower.wait()
            golden.decay = decays
            for x, label in zip(quantise_pixels(SPEC, pixels[part]), labels[part], strict=True):
                golden.step(x, int(label))
        followed = follower.weights()
    assert any((weights != first).any() for weights, first in zip(followed, start, strict=True))
    for expected, actual in zip(golden.weights, followed, strict=True):
        np.testing.assert_array_equal(actual, expected)
