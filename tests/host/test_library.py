"""The host as a library: the example, and calls from several threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.datasets import load
from locallearn.host.device import ChipDevice, Device, ModelDevice
from locallearn.host.link import Link
from locallearn.quant.fast import FastNetwork
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.host.test_resume import SPEC

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_chip.py"


def example(target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLE, target], capture_output=True, text=True)


def test_example() -> None:
    """The chip comes to what the model comes to, in at most 30 lines."""
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    chip, model = example("sim"), example("model")
    assert chip.returncode == model.returncode == 0, chip.stderr + model.stderr
    assert chip.stdout == model.stdout
    lines = model.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3", "layer_0", "layer_1"]
    assert float(lines[2].split()[2]) > 90


def test_example_without_a_chip() -> None:
    failed = example("/dev/no-such-port")
    assert failed.returncode == 1
    assert failed.stderr.startswith("/dev/no-such-port: cannot be opened")


def from_threads(device: Device) -> None:
    """What each call comes to is whole, however they meet."""
    data = load("digits")
    device.reset()
    weights = [np.full_like(array, 1) for array in device.read_weights()]

    def learn(number: int) -> int:
        part = slice(20 * number, 20 * number + 20)
        return len(device.stream(data.train_x[part], data.train_y[part]))

    def write_and_read(number: int) -> bool:
        device.write_weights(weights)
        return [array.shape for array in device.read_weights()] == [array.shape for array in weights]

    def count(number: int) -> bool:
        return device.counters().samples % 20 == 0

    with ThreadPoolExecutor(4) as pool:
        learned = [pool.submit(learn, number) for number in range(12)]
        others = [pool.submit(what, number) for number in range(6) for what in (write_and_read, count)]
        assert [each.result() for each in learned] == [20] * 12
        assert all(each.result() for each in others)
    assert device.counters().samples == 240


def test_threads_with_a_model() -> None:
    with ModelDevice(SPEC, FastNetwork) as device:
        from_threads(device)


def test_threads_with_a_chip() -> None:
    with (
        SimulatedChip(chip_verilog(SPEC), optimise=False) as chip,
        ChipDevice(SPEC, Link(chip.url)) as device,
    ):
        from_threads(device)
        assert device.counters().link_errors == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_call_that_fails_lets_others_go_on(error: type[BaseException]) -> None:
    def fail(done: int) -> None:
        raise error

    data = load("digits")
    with ModelDevice(SPEC) as device:
        with pytest.raises(error):
            device.stream(data.test_x[:4], None, fail)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(device.counters).result(timeout=10).samples >= 0
