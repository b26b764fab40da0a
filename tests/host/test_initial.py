"""Training on from another run's weights: what they must fit, where they go, and what the report says."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locallearn.host.cli import main
from locallearn.host.datasets import Dataset, load
from locallearn.host.device import ChipDevice, Device, ModelDevice
from locallearn.host.initial import initial_weights
from locallearn.host.link import Link
from locallearn.host.run import Run
from locallearn.host.train import Display, train
from locallearn.quant.errors import RunError
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.compare import assert_same
from tests.host.test_cli import fail, succeed
from tests.strategies import from_whole_range

LEARNED = {"matrix": "learned"}
SPEC = NetworkSpec(
    "begins", 10, InputSpec(64), (LayerSpec(8, 4), LayerSpec(6, 3)), training=TrainingSpec(7, decay=(0, 1), seed=3)
)
ORIGIN = {"data_source": "digits", "data_dir": None, "validation": None}


def made(path: Path, spec: NetworkSpec = SPEC) -> Run:
    """A folder with a description and weights, and nothing else, as an import leaves one."""
    run = Run.create(path)
    run.save_spec(spec)
    run.save_weights(from_whole_range(NetworkPlan(spec), np.random.default_rng(1)))
    return run


# -- what fits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers.*.lanes": 1, "layers.0.rate_shift": 9, "layers.1.score_shift": 2, "training.decay": [2, 0.5]},
        {"layers.0.frozen": "all", "layers.1.dropout": 0.5, "training.augment": {"shift": 1}, "name": "other"},
        {"layers.0.classifier": {"error": "top"}, "error_bits": 8, "noise_bits": 4, "early_exit": True},
        {"layers.1.classifier": {"loss": "squared-hinge", "feedback": "random"}, "sum_scores": True},
    ],
)
def test_how_to_learn_may_differ(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = made(tmp_path / "run")
    for expected, actual in zip(run.weights(), initial_weights(run, SPEC.replaced(changes)), strict=True):
        assert_same("weight", expected, actual)


def test_another_seed_where_all_classifiers_are_learned(tmp_path: Path) -> None:
    spec = SPEC.replaced({"layers.*.classifier": LEARNED})
    run = made(tmp_path / "run", spec)
    assert len(initial_weights(run, spec.replaced({"training.seed": 4, "layers.0.frozen": "weights"}))) == 4


IMAGE = replace(
    SPEC, input=InputSpec(shape=(1, 8, 8), size=64), layers=(ConvSpec(4, classifier=SPEC.layers[0].classifier),) * 2
)


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (SPEC, {"classes": 11}, "there classes is 10, here 11"),
        (SPEC, {"input.size": 63}, "there input.size is 64, here 63"),
        (SPEC, {"input.bits": 7, "input.fraction": 7}, "there input is u8.8, here u7.7"),
        (SPEC, {"input": {"shape": [1, 8, 8]}}, "there input.shape is not given, here [1, 8, 8]"),
        (SPEC, {"activation.fraction": 5}, "there activation is u8.4, here u8.5"),
        (SPEC, {"weight.fraction": 10}, "there weight is s12.11, here s12.10"),
        (SPEC, {"layers": [{"neurons": 8}]}, "there the number of layers is 2, here 1"),
        (SPEC, {"layers.1.neurons": 7}, "there layers[1].neurons is 6, here 7"),
        (SPEC, {"layers.1.classifier": LEARNED}, "there layers[1].classifier.matrix is uniform, here learned"),
        (SPEC, {"layers.0.classifier": {"bits": 2}}, "there layers[0].classifier.bits is 1, here 2"),
        (
            SPEC,
            {"training.seed": 4},
            "there training.seed is 3, here 4; fixed classifiers are made from it, --seed 3 makes the same",
        ),
        (
            SPEC.replaced({"layers.0.classifier": LEARNED}),
            {"layers.0.classifier.bits": 14},
            "there layers[0].classifier.bits is 12, here 14",
        ),
        (IMAGE, {"layers.1": {"neurons": 4}}, "there layers[1] is a convolution, here dense"),
        (IMAGE, {"layers.0.channels": 5}, "there layers[0].channels is 4, here 5"),
        (IMAGE, {"layers.0.kernel": 5}, "there layers[0].kernel is 3, here 5"),
        (IMAGE, {"layers.1.stride": 2}, "there layers[1].stride is 1, here 2"),
        (IMAGE, {"layers.0.resolution": 2}, "there layers[0].resolution is 4, here 2"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spec: NetworkSpec, changes: dict[str, Any], message: str) -> None:
    run = made(tmp_path / "run", spec)
    with pytest.raises(RunError, match=f"^{re.escape(f'{run.path}: {message}')}$"):
        initial_weights(run, spec.replaced(changes))


# -- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load("digits")
    return replace(whole, test_x=whole.test_x[:50], test_y=whole.test_y[:50])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SimulatedChip(chip_verilog(SPEC), optimise=False) as chip:
        yield chip.url


@pytest.fixture(params=["model", "chip"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "model":
        yield ModelDevice(SPEC)
    else:
        with ChipDevice(SPEC, Link(request.getfixturevalue("url"))) as chip:
            yield chip


def test_begins_with_the_weights(tmp_path: Path, digits: Dataset, device: Device) -> None:
    """Measured before anything is learned; the follower too begins with them."""
    initial = made(tmp_path / "first").weights()
    report = train(device, digits, Run.create(tmp_path / "run"), 1, 60, Display(), ORIGIN, initial)
    assert report["weights_equal_golden"] is (True if isinstance(device, ChipDevice) else None)
    golden = GoldenNetwork(SPEC)
    golden.weights = initial
    right = np.zeros(2)
    for x, label in zip(digits.test_x, digits.test_y, strict=True):
        right += [trace.predicted == label for trace in golden.step(x)]
    assert report["initial_test_accuracy[%]"] == pytest.approx(2 * right)
    order = np.random.default_rng([3, 0]).permutation(len(digits.train_x))[:60]
    for x, label in zip(digits.train_x[order], digits.train_y[order], strict=True):
        golden.step(x, int(label))
    for name, expected, actual in zip(golden.plan.arrays, golden.weights, Run(tmp_path / "run").weights(), strict=True):
        assert_same(name, expected, actual)
    assert report["counters"]["samples"] == 60


def test_says_nothing_of_a_beginning_with_the_seed(tmp_path: Path, digits: Dataset) -> None:
    report = train(ModelDevice(SPEC), digits, Run.create(tmp_path / "run"), 1, 20, Display(), ORIGIN)
    assert "initial_test_accuracy[%]" not in report


def test_stopped_before_anything_is_learned(tmp_path: Path, digits: Dataset, device: Device) -> None:
    """The weights that it began with are saved."""

    class Impatient(Display):
        def task(self, text: str, total: int) -> Callable[[int], None]:
            if text == "initial test":
                os.kill(os.getpid(), signal.SIGINT)
            return lambda done: None

        def initial(self, accuracy: list[float]) -> None:
            raise AssertionError("not measured")

    initial = made(tmp_path / "first").weights()
    report = train(device, digits, Run.create(tmp_path / "run"), 2, 60, Impatient(), ORIGIN, initial)
    assert (report["interrupted"], report["epochs"], report["samples"]) == (True, 0, 0)
    assert (report["initial_test_accuracy[%]"], report["test_accuracy[%]"]) == (None, None)
    assert report["weights_equal_golden"] is (True if isinstance(device, ChipDevice) else None)
    for expected, actual in zip(initial, Run(tmp_path / "run").weights(), strict=True):
        assert_same("weight", expected, actual)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report


# -- the command ---------------------------------------------------------------------------------------------------


def test_goes_on_where_a_run_ended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On the simulated chip from the model's run, with the first layer frozen."""
    first, second = tmp_path / "first", tmp_path / "second"
    values = ("--set", "layers.1.classifier={ matrix = 'learned' }", "--seed", 5)
    before = succeed(capsys, "train", *values, "--device", "model", "--epochs", 2, "--out", first)
    assert before["init"] is None
    again = ("--init", first, "--freeze", 0, "1:weights", "--epochs", 1, "--limit", 100, "--out", second)
    report = succeed(capsys, "train", *again)
    assert (report["init"], report["seed"], report["device"]) == (str(first), 5, "sim")
    assert report["weights_equal_golden"] is True
    assert report["initial_test_accuracy[%]"] == before["test_accuracy[%]"]
    assert [layer["learned"] > 0 for layer in report["counters"]["layers"]] == [False, True]
    assert [layer["words_written"] for layer in report["counters"]["layers"]] == [0, 0]
    assert Run(second).spec == Run(first).spec.replaced({"layers.0.frozen": "all", "layers.1.frozen": "weights"})
    (w0, w1, matrix), (v0, v1, learned) = Run(first).weights(), Run(second).weights()
    assert_same("layer 0", w0, v0)
    assert_same("layer 1", w1, v1)
    assert (matrix != learned).any()
    (second / "report.json").unlink()
    code = main(["train", "--init", str(second), "--device", "model", "--limit", "20", "--out", str(tmp_path / "c")])
    out = capsys.readouterr().out
    assert code == 0
    assert f"begins with the weights of {second}\n" in out
    assert re.search(r"^initial    held out: layer 0 [\d.]+ %  layer 1 [\d.]+ %$", out, re.MULTILINE)


def test_a_named_description_takes_the_place_of_the_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("--device", "model", "--epochs", 1, "--limit", 20)
    succeed(capsys, "train", *arguments, "--seed", 2, "--set", 'name="first"', "--out", tmp_path / "first")
    on = (*arguments, "--init", tmp_path / "first", "--out", tmp_path / "second")
    code, line = fail(capsys, "train", "digits", *on)
    assert (code, line.split("there ")[1]) == (
        7,
        "training.seed is 2, here 1; fixed classifiers are made from it, --seed 2 makes the same",
    )
    assert not (tmp_path / "second").exists()
    assert succeed(capsys, "train", "digits", *on, "--seed", 2)["spec"] == "digits"
    shutil.rmtree(tmp_path / "second")
    assert succeed(capsys, "train", *on)["spec"] == "first"


def test_frozen_by_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    freezes = ("--set", "layers.1.frozen='all'", "--freeze", 0, "--device", "model", "--limit", 20, "--epochs", 1)
    report = succeed(capsys, "train", *freezes, "--out", run)
    assert [layer["skipped"] for layer in report["counters"]["layers"]] == [20, 20]
    assert [layer.frozen for layer in Run(run).spec.layers] == ["all", "all"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--freeze", 2), 3, "layers.2.frozen: there is no 2 in a list of 2; * takes all, 0 the first"),
        (
            ("--freeze", "1:weights"),
            3,
            "layers[1].frozen = 'weights': its classifier does not learn, nothing would; take 'all'",
        ),
        (("--init", "nowhere"), 7, "nowhere/spec.toml: cannot be read: No such file or directory; a run folder is"),
    ],
)
def test_wrong_values(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], code: int, message: str
) -> None:
    found, line = fail(capsys, "train", "--device", "model", *arguments)
    assert found == code
    assert line.startswith(f"locallearn: {message}")


@pytest.mark.parametrize("text", ["-1", "first", "0:all", "0:", "1.5", "0,1"])
def test_wrong_words(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", f"--freeze={text}"])
    assert stop.value.code == 2
    message = f"argument --freeze: {text}: needed is a layer's number, such as 0, the first, or 0:weights"
    assert message in capsys.readouterr().err
