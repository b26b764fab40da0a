"""Runs that are interrupted or killed at any moment and go on: what comes out is what no break would have changed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locallearn.host import run as run_module
from locallearn.host.checkpoint import newest_checkpoint
from locallearn.host.cli import main
from locallearn.host.datasets import Dataset, load
from locallearn.host.device import ChipDevice, Device, ModelDevice
from locallearn.host.link import Link
from locallearn.host.run import Run
from locallearn.host.train import Display, resume, train
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.errors import RunError
from locallearn.quant.fast import FastNetwork
from locallearn.quant.spec import AugmentSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec, load_spec
from locallearn.quant.state import State
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.host.test_cli import fail, succeed
from tests.host.test_state import assert_same_state
from tests.strategies import from_whole_range

SPEC = NetworkSpec(
    "resumed",
    10,
    InputSpec(64),
    (LayerSpec(16, 4, classifier=ClassifierSpec("learned", rate_shift=4), dropout=0.25), LayerSpec(12, 3)),
    training=TrainingSpec(7, (0, 0.5, 1), seed=3, augment=AugmentSpec(shift=1)),
)
ORIGIN = {"data_source": "digits", "data_dir": None, "validation": None, "init": None}
EPOCHS, LIMIT, EVERY = 3, 400, 70

TIMES = ("throughput[samples/s]", "cycles_per_sample")
OF_A_CHIP = ("cycles", "link_errors", "bad_frames", "missed_frames", "discarded", "starved", "waiting")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on time, or on the device that it was."""
    kept = {name: value for name, value in metrics.items() if name not in TIMES}
    counters = {name: value for name, value in kept["counters"].items() if name not in OF_A_CHIP}
    counters["layers"] = [
        {name: count for name, count in layer.items() if name not in OF_A_CHIP} for layer in counters["layers"]
    ]
    return kept | {"counters": counters}


def outcome(path: Path) -> dict[str, Any]:
    """All that a run leaves, but for times, its folder and its device."""
    run = Run(path)
    report = timeless(run.report)
    for name in ("out", "device", "link", "weights_equal_golden", "first_difference"):
        report.pop(name, None)
    files = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    metrics = [timeless(json.loads(line)) for line in (path / "metrics.jsonl").read_text().splitlines()]
    learned = [array.tolist() for array in (*run.weights(), *run.confusion())]
    return {"files": files, "report": report, "metrics": metrics, "learned": learned}


def model() -> ModelDevice:
    return ModelDevice(SPEC, FastNetwork)


def began(path: Path, device: Device, data: Dataset, display: Display, initial: Any = None) -> dict[str, Any]:
    return train(device, data, Run.create(path), EPOCHS, LIMIT, display, ORIGIN, initial, EVERY)


def went_on(path: Path, device: Device, data: Dataset, display: Display) -> dict[str, Any]:
    checkpoint, _ = newest_checkpoint(path)
    checkpoint.check(Run(path), data)
    return resume(device, data, Run(path), checkpoint, display, EVERY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> tuple[dict[str, Any], State]:
    """What an uninterrupted run leaves, and the device's state at its end."""
    device, path = model(), tmp_path_factory.mktemp("whole") / "run"
    began(path, device, digits, Display())
    return outcome(path), device.read_state()


class Impatient(Display):
    """Ctrl-C after so many steps of a task."""

    def __init__(self, text: str, steps: int) -> None:
        self._text, self._steps = text, steps

    def task(self, text: str, total: int) -> Callable[[int], None]:
        def progress(done: int) -> None:
            if text == self._text and done >= self._steps:
                self._text = ""
                os.kill(os.getpid(), signal.SIGINT)

        return progress


# -- interrupted ---------------------------------------------------------------------------------------------------


def test_interrupted_at_random_moments(tmp_path: Path, digits: Dataset, whole: tuple[dict[str, Any], State]) -> None:
    expected, state = whole
    rng = np.random.default_rng(0)
    for attempt in range(12):
        path = tmp_path / str(attempt)
        begin: Callable[..., dict[str, Any]] = began
        for epoch in (1, 2, 3):
            # Some before its first sample, some in its test.
            text = f"epoch {epoch}/{EPOCHS} {rng.choice(['train', 'train', 'test'])}"
            report = begin(path, model(), digits, Impatient(text, int(rng.integers(0, LIMIT // 2))))
            assert report["interrupted"]
            lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            assert [line["epoch"] for line in lines] == list(range(1, epoch + 1))
            assert lines[-1]["test_accuracy[%]"] is None
            begin = went_on
        device = model()
        assert not went_on(path, device, digits, Display())["interrupted"]
        assert outcome(path) == expected
        assert_same_state("at last", state, device.read_state())


def test_interrupted_while_given_weights_are_measured(tmp_path: Path, digits: Dataset) -> None:
    initial = from_whole_range(model().plan, np.random.default_rng(1))
    began(tmp_path / "whole", model(), digits, Display(), initial)
    path = tmp_path / "run"
    assert began(path, model(), digits, Impatient("initial test", 0), initial)["initial_test_accuracy[%]"] is None
    assert went_on(path, model(), digits, Impatient("epoch 2/3 train", 100))["interrupted"]
    report = went_on(path, model(), digits, Display())
    assert len(report["initial_test_accuracy[%]"]) == 2
    assert outcome(path) == outcome(tmp_path / "whole")


def test_from_the_chip_to_the_model_and_back(
    tmp_path: Path, digits: Dataset, whole: tuple[dict[str, Any], State]
) -> None:
    """The follower too goes on from the checkpoint."""
    path, small = tmp_path / "run", replace(digits, test_x=digits.test_x[:60], test_y=digits.test_y[:60])
    device = model()
    began(tmp_path / "whole", device, small, Display())
    with SimulatedChip(chip_verilog(SPEC), optimise=False) as simulated:
        with ChipDevice(SPEC, Link(simulated.url)) as chip:
            report = began(path, chip, small, Impatient("epoch 1/3 train", 100))
            assert (report["interrupted"], report["weights_equal_golden"]) == (True, True)
            assert 0 < report["samples"] < LIMIT
        assert went_on(path, model(), small, Impatient("epoch 2/3 train", 100))["interrupted"]
        with ChipDevice(SPEC, Link(simulated.url)) as chip:
            report = went_on(path, chip, small, Display())
            assert (report["interrupted"], report["weights_equal_golden"]) == (False, True)
            assert report["counters"]["cycles"] > 0
            assert_same_state("at last", device.read_state(), chip.read_state())
    assert outcome(path) == outcome(tmp_path / "whole")


# -- killed --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """In the place of a kill: nothing is done after it."""


def kill_at(patched: pytest.MonkeyPatch, moment: int) -> None:
    """The `moment`-th file that is put into its place is not, or the line of metrics there is cut short."""
    count, put = 0, Path.replace

    def now() -> bool:
        nonlocal count
        count += 1
        return count > moment

    def replacing(path: Path, target: Path) -> Path:
        if now():
            raise Killed
        return put(path, target)

    def append(path: Path, record: dict[str, Any]) -> None:
        line = json.dumps(record) + "\n"
        dead = now()
        with path.open("a") as file:
            file.write(line[: len(line) // 2] if dead else line)
        if dead:
            raise Killed

    patched.setattr(Path, "replace", replacing)
    patched.setattr(run_module, "append_record", append)


def test_killed_between_any_two_writes(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, Any], State]
) -> None:
    expected, state = whole
    moment, last = 0, False
    while not last:
        path = tmp_path / str(moment)
        try:
            with monkeypatch.context() as patched:
                kill_at(patched, moment)
                began(path, model(), digits, Display())
            last = True
        except Killed:
            if moment < 2:  # the description and the first checkpoint
                with pytest.raises(RunError, match="no checkpoint, a run that `train` began has one"):
                    newest_checkpoint(path)
            else:
                device = model()
                went_on(path, device, digits, Display())
                assert_same_state(f"killed at {moment}", state, device.read_state())
                assert outcome(path) == expected
        moment += 1
    assert moment > 30
    assert outcome(path) == expected


def fill_disk_at(patched: pytest.MonkeyPatch, moment: int) -> None:
    """The `moment`-th file that is opened to be written, and all after it, cannot be."""
    count, opened, saved = 0, Path.open, np.savez_compressed

    def check() -> None:
        nonlocal count
        count += 1
        if count > moment:
            raise OSError(28, "No space left on device")

    def open_file(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode[0] in "wa":
            check()
        return opened(path, mode, *rest, **options)

    def save(path: Path, **arrays: Any) -> None:
        check()
        saved(path, **arrays)

    patched.setattr(Path, "open", open_file)
    patched.setattr(np, "savez_compressed", save)


def test_full_disk_at_any_write(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, Any], State]
) -> None:
    """The run ends with an error that names the file; it goes on once there is room."""
    named = set()
    for moment in range(2, 34):
        path = tmp_path / str(moment)
        with monkeypatch.context() as patched:
            fill_disk_at(patched, moment)
            with pytest.raises(RunError, match=r": cannot be written: No space left on device$") as caught:
                began(path, model(), digits, Display())
        named.add(Path(str(caught.value).partition(":")[0]).name)
        went_on(path, model(), digits, Display())
        assert outcome(path) == whole[0]
    places = {"checkpoint-0", "checkpoint-1", "metrics.jsonl", "weights.npz", "confusion.npz", "report.json"}
    assert named == places


PROCESS = [sys.executable, "-c", "import sys; from locallearn.host.cli import main; sys.exit(main())", "train"]
LONG = ["--epochs", "12", "--checkpoint", "40", "--set", "layers.0.dropout=0.25"]


def killed_and_resumed(folder: Path, kills: int, rng: np.random.Generator, device: str = "model") -> None:
    """A process learns until it is killed at a random moment of its training, and so do those that go on."""
    assert main(["train", *LONG, "--device", "model", "--out", str(folder / "whole")]) == 0
    expected = outcome(folder / "whole")
    number, killed = 0, 0
    while killed < kills:
        number += 1
        path = folder / str(number)
        arguments = [*LONG, "--device", device, "--out", str(path)]
        while killed < kills:
            before = times_of_checkpoints(path)
            process = subprocess.Popen([*PROCESS, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            while process.poll() is None and times_of_checkpoints(path) == before:
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.3)))
            process.kill()
            _, errors = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), errors.decode()
            if process.returncode == 0:
                break
            killed += 1
            arguments = ["--resume", str(path), "--device", device, "--checkpoint", "40"]
        assert main(["train", "--resume", str(path), "--device", device]) == 0
        assert outcome(path) == expected


def times_of_checkpoints(path: Path) -> list[int]:
    with suppress(FileNotFoundError):  # in between
        return [file.stat().st_mtime_ns for file in sorted(path.glob("checkpoint-*"))]
    return []


def test_killed_processes(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, 3, np.random.default_rng(0))


@pytest.mark.slow
def test_many_killed_processes(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, 50, np.random.default_rng(1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_killed_hosts_of_a_chip(tmp_path: Path) -> None:
    """The chip stays: it is in the middle of what the last host sent when the next one comes."""
    with SimulatedChip(chip_verilog(load_spec("digits").replaced({"layers.0.dropout": 0.25}))) as chip:
        killed_and_resumed(tmp_path, 50, np.random.default_rng(2), chip.url)


# -- damaged -------------------------------------------------------------------------------------------------------


def test_newest_checkpoint_is_damaged(
    tmp_path: Path, digits: Dataset, whole: tuple[dict[str, Any], State], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was done since the one before is done once more, without a trace."""
    path = tmp_path / "run"
    began(path, model(), digits, Impatient("epoch 2/3 train", 0))
    newest, _ = newest_checkpoint(path)
    assert (newest.epoch, newest.under_way.samples) == (1, 0)
    (path / f"checkpoint-{newest.number % 2}").write_bytes(b"damaged")
    assert main(["train", "--resume", str(path), "--checkpoint", str(EVERY)]) == 0
    out = capsys.readouterr().out
    assert f"checkpoint-{newest.number % 2}: damaged: its checksum is another one; the other one is used" in out
    assert f"goes on in epoch 1 of 3, after {LIMIT} of its samples" in out
    assert outcome(path) == whole[0]


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command(
    tmp_path: Path, digits: Dataset, whole: tuple[dict[str, Any], State], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    began(path, model(), digits, Impatient("epoch 2/3 train", 100))
    report = succeed(capsys, "train", "--resume", path, "--device", "numpy", "--checkpoint", 33)
    assert (report["device"], report["interrupted"], report["epochs"]) == ("numpy", False, EPOCHS)
    assert outcome(path) == whole[0]
    # Once more, nothing, but that what a kill at the very end left is tidied up.
    (path / "checkpoint-1").write_bytes(b"")
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir() if file.name != "checkpoint-1"}
    assert succeed(capsys, "train", "--resume", path) == report
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before
    assert main(["train", "--resume", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} is complete\n"


def test_validation_limit_and_init_are_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--device", "model", "--epochs", 2, "--limit", 300, "--validation", 200, "--seed", 6)
    assert main([*map(str, ("train", *options, "--out", tmp_path / "first"))]) == 0
    again = (*options, "--init", tmp_path / "first", "--freeze", "0")
    for name in ("whole", "run"):
        assert main([*map(str, ("train", *again, "--out", tmp_path / name))]) == 0
    path = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patched:
        kill_at(patched, 7)
        with pytest.raises(Killed):
            main([*map(str, ("train", *again, "--checkpoint", 64, "--out", path))])
    # It needs its beginning no more.
    (tmp_path / "first" / "weights.npz").unlink()
    assert main(["train", "--resume", str(path)]) == 0
    assert outcome(path) == outcome(tmp_path / "whole") == outcome(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mnist",), "PRESET|SPEC.toml"),
        (("--set", "noise_bits=4", "--seed", "0"), "--set, --seed"),
        (("--data", "digits", "--data-dir", "x"), "--data, --data-dir"),
        (("--epochs", "3", "--limit", "5", "--validation", "4"), "--epochs, --limit, --validation"),
        (("--init", "x", "--freeze", "0", "--out", "y"), "--init, --freeze, --out"),
    ],
)
def test_what_would_change_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    code, line = fail(capsys, "train", *arguments, "--resume", tmp_path)
    assert code == 2
    given = {*line.removeprefix("locallearn: --resume goes on as the run began: leave out ").split(", ")}
    assert given == {*named.split(", ")}


def test_nothing_to_go_on_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = fail(capsys, "train", "--resume", tmp_path / "none")
    assert (code, line) == (
        7,
        f"locallearn: {tmp_path / 'none'}: no checkpoint, a run that `train` began has one",
    )


def test_metrics_that_are_not_the_runs(tmp_path: Path, digits: Dataset) -> None:
    path = tmp_path / "run"
    began(path, model(), digits, Impatient("epoch 2/3 train", 0))
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    for content, message in (
        ("", r"metrics.jsonl: needed are the metrics of epochs 1 to 1$"),
        (lines[1], r"metrics.jsonl: needed are the metrics of epochs 1 to 1$"),
        (lines[0][:50], r"metrics.jsonl: not JSON: "),
    ):
        (path / "metrics.jsonl").write_text(content)
        with pytest.raises(RunError, match=message):
            went_on(path, model(), digits, Display())
