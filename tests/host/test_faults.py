"""Training over a line that loses, alters, delays and breaks: every sample is learned once, whatever happens to it."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from locallearn.host.datasets import Dataset, load
from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.link import Link
from locallearn.host.train import Display
from locallearn.quant.fast import FastNetwork
from locallearn.quant.spec import NetworkSpec
from locallearn.sim.build import build
from locallearn.sim.design import chip_verilog
from tests.compare import assert_same
from tests.host.faulty_line import FaultyLine
from tests.host.test_resume import SPEC, began, model, outcome
from tests.host.test_state import assert_same_state
from tests.noise import Noise


class Process:
    """A simulated chip that can be killed and started again at the same place."""

    def __init__(self, spec: NetworkSpec) -> None:
        self._executable = build(chip_verilog(spec))
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.port: int = any_port.getsockname()[1]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._executable, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout
        assert self._process.stdout.readline()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self.port}"


@pytest.fixture
def chip() -> Iterator[Process]:
    process = Process(SPEC)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def learn_over(line: FaultyLine, data: Dataset, samples: int) -> Link:
    """In pieces, as training does it, with reads and inference between; compared with the model."""
    random = np.random.default_rng(samples)
    golden = ModelDevice(SPEC, FastNetwork)
    link = Link(line.url)
    with ChipDevice(SPEC, link) as device:
        device.reset()
        while samples:
            some = random.choice(len(data.train_x), min(samples, int(random.integers(1, 400))))
            pixels, labels = data.train_x[some], data.train_y[some]
            expected, actual = golden.stream(pixels, labels), device.stream(pixels, labels)
            assert_same("predicted", expected.predicted, actual.predicted)
            assert_same("error", expected.error, actual.error)
            tested = data.test_x[: int(random.integers(0, 40))]
            assert_same("tested", golden.stream(tested, None).predicted, device.stream(tested, None).predicted)
            samples -= len(some)
        assert_same_state("at last", golden.read_state(), device.read_state())
        counters = device.counters()
        assert counters.samples == golden.counters().samples
        assert counters.link_errors == 0, "no altered byte went as far as the packets"
        assert counters.layers == golden.counters().layers
    return link


def noisy(chip: Process, seed: int, rate: float) -> FaultyLine:
    """Bits turned, bytes lost, made up and doubled, pieces lost and repeated, breaks and stalls."""
    noise = Noise(rate, rate / 4, rate / 4, rate / 4, rate / 50, rate / 50)
    return FaultyLine(chip.port, noise, Random(seed), break_after=100_000, stall_after=50_000, stall_s=0.2)


def test_training_over_a_faulty_line(chip: Process, digits: Dataset) -> None:
    with noisy(chip, 1, 1e-3) as line:
        link = learn_over(line, digits, 1000)
    assert link.counters.bad > 0 and link.counters.missed > 0 and link.counters.resent > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_training_of_10000_over_a_faulty_line(chip: Process, digits: Dataset, seed: int) -> None:
    with noisy(chip, seed, 1e-3) as line:
        link = learn_over(line, digits, 10_000)
    counters = link.counters
    assert counters.bad > 100 and counters.missed > 100 and line.stalls > 1 and line.breaks > 1, (counters, line.breaks)
    print(counters, f"{line.breaks} breaks, {line.stalls} stalls")


# -- a chip that goes away -----------------------------------------------------------------------------


def test_the_chip_is_killed_while_it_trains(tmp_path: Path, digits: Dataset, chip: Process) -> None:
    """At random moments, and comes back with nothing learned: the run goes on from its last checkpoint by itself."""
    killed(tmp_path, digits, chip, kills=3)


@pytest.mark.slow
def test_the_chip_is_killed_20_times(tmp_path: Path, digits: Dataset, chip: Process) -> None:
    killed(tmp_path, digits, chip, kills=20)


def killed(tmp_path: Path, data: Dataset, chip: Process, kills: int) -> None:
    random = Random(kills)
    began(tmp_path / "whole", model(), data, Display())
    done = 0
    rounds = 0
    while done < kills:
        rounds += 1
        over = threading.Event()

        def kill_and_start(over: threading.Event = over) -> None:
            nonlocal done
            while not over.wait(random.uniform(0.02, 0.5)) and done < kills:
                chip.kill()
                done += 1
                time.sleep(random.uniform(0, 0.3))
                chip.start()

        path = tmp_path / f"run-{rounds}"
        with ChipDevice(SPEC, Link(chip.url)) as device:
            killer = threading.Thread(target=kill_and_start)
            killer.start()
            report = began(path, device, data, Display())
            over.set()
            killer.join()
        assert report["weights_equal_golden"]
        assert report["link"]["bad"] == 0
        assert outcome(path) == outcome(tmp_path / "whole"), f"after {done} kills"
        assert rounds < 50
