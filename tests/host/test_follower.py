"""The follower learns what it is given, in that order."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

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


# -- the process that it is in ----------------------------------------------------------------------------------------

PARENT = """
import signal
from locallearn.host.follower import Follower
from locallearn.quant.fast import FastNetwork
from tests.host.test_follower import SPEC

for reason in (signal.SIGINT, signal.SIGTERM):
    signal.signal(reason, lambda *_: None)
with Follower(SPEC, FastNetwork(SPEC).state) as follower:
    follower.wait()
    print(len(follower.weights()), flush=True)
    input()
    print(len(follower.weights()))
"""
"""What is to be ended in order takes signals as the host does while it trains."""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """Whose golden model is at work; in a group of its own, as those of a terminal and of a service are."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "2\n"
        yield process


@pytest.mark.parametrize("reason", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_is_the_parents(parent: subprocess.Popen[str], reason: signal.Signals) -> None:
    """What the golden model has learned can still be asked for."""
    os.killpg(parent.pid, reason)
    assert parent.communicate("\n", timeout=30) == ("2\n", "")
    assert parent.returncode == 0


def test_nothing_is_left_of_a_parent_that_was_killed(parent: subprocess.Popen[str]) -> None:
    """Its output ends when all who could write to it have."""
    parent.kill()
    assert parent.communicate(timeout=30)[0] == ""
