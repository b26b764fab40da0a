"""Training on the model: reproducible, stoppable, reported as documented."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.augment import augment
from locallearn.host.datasets import Dataset, load, validation
from locallearn.host.device import ModelDevice
from locallearn.host.run import Run
from locallearn.host.train import Display, train
from locallearn.quant.errors import DataError
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.spec import AugmentSpec, LayerSpec, NetworkSpec, load_spec

DIGITS = load_spec("digits")
SMALL = replace(DIGITS, layers=(LayerSpec(16, lanes=4), LayerSpec(12, lanes=5)))
AUGMENT = AugmentSpec(shift=1, flip=True, cutout=3)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def run_of(spec: NetworkSpec, path: Path, digits: Dataset, epochs: int, limit: int | None = None) -> dict:
    return train(
        ModelDevice(spec),
        digits,
        Run.create(path),
        epochs,
        limit,
        Display(),
        {"data_source": "digits", "data_dir": None},
    )


def test_same_seed_same_weights(tmp_path: Path, digits: Dataset) -> None:
    reports = [run_of(SMALL, tmp_path / name, digits, 2, 100) for name in ("a", "b")]
    other = replace(SMALL, training=replace(SMALL.training, seed=2))
    run_of(other, tmp_path / "c", digits, 2, 100)
    a, b, c = (Run(tmp_path / name).weights() for name in "abc")
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert not all((x == y).all() for x, y in zip(a, c, strict=True))
    for name in ("test_accuracy[%]", "train_accuracy[%]", "counters"):
        assert reports[0][name] == reports[1][name]


@pytest.mark.parametrize("augmentation", [AugmentSpec(), AUGMENT])
def test_is_the_golden_model_in_the_documented_order(
    tmp_path: Path, digits: Dataset, augmentation: AugmentSpec
) -> None:
    spec = replace(SMALL, training=replace(SMALL.training, decay=(0, 2), augment=augmentation))
    run_of(spec, tmp_path / "run", digits, 3, 50)
    golden = GoldenNetwork(spec)
    for epoch, decay in enumerate((0, 2, 2)):
        golden.decay = (decay,) * len(spec.layers)
        order = np.random.default_rng([spec.training.seed, epoch]).permutation(len(digits.train_x))
        rng = np.random.default_rng([spec.training.seed, epoch, 1])
        pixels = augment(digits.train_x[order], (8, 8), augmentation, rng)
        for x, label in zip(pixels[:50], digits.train_y[order[:50]], strict=True):
            golden.step(x, int(label))
    for expected, actual in zip(golden.weights, Run(tmp_path / "run").weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_augmentation_is_reproducible(tmp_path: Path, digits: Dataset) -> None:
    spec = replace(SMALL, training=replace(SMALL.training, augment=AUGMENT))
    for name, each in (("a", spec), ("b", spec), ("plain", SMALL)):
        run_of(each, tmp_path / name, digits, 2, 60)
    a, b, plain = (Run(tmp_path / name).weights() for name in ("a", "b", "plain"))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert not all((x == y).all() for x, y in zip(a, plain, strict=True))


def test_what_has_no_rows_cannot_be_augmented(tmp_path: Path, digits: Dataset) -> None:
    spec = replace(SMALL, training=replace(SMALL.training, augment=AUGMENT))
    with pytest.raises(DataError, match=r"training.augment needs images of .*, the data set has \(64,\)"):
        run_of(spec, tmp_path / "run", replace(digits, shape=(64,)), 1)


def test_validation_never_sees_the_test_part(tmp_path: Path, digits: Dataset) -> None:
    without = replace(digits, test_x=digits.test_x[:0], test_y=digits.test_y[:0])
    report = run_of(SMALL, tmp_path / "run", validation(without, 300), 1)
    assert report["held_out"] == "last 300 training samples"
    assert report["samples"] == len(digits.train_x) - 300
    golden = GoldenNetwork(SMALL)
    golden.weights = Run(tmp_path / "run").weights()
    right = np.zeros(2)
    for x, label in zip(digits.train_x[-300:], digits.train_y[-300:], strict=True):
        right += [trace.predicted == label for trace in golden.step(x)]
    assert report["test_accuracy[%]"] == pytest.approx(right / 3, abs=1e-4)


def test_confusion_of_the_last_epoch(tmp_path: Path, digits: Dataset) -> None:
    report = run_of(SMALL, tmp_path / "run", digits, 2, 200)
    matrices = Run(tmp_path / "run").confusion()
    assert len(matrices) == 2
    for matrix, accuracy in zip(matrices, report["test_accuracy[%]"], strict=True):
        np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(digits.test_y))
        assert 100 * np.trace(matrix) / len(digits.test_y) == pytest.approx(accuracy, abs=1e-4)


def test_report_and_metrics(tmp_path: Path, digits: Dataset) -> None:
    report = run_of(SMALL, tmp_path / "run", digits, 2, 200)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert report["epochs"] == 2
    assert report["samples"] == 200
    assert len(report["test_accuracy[%]"]) == 2
    assert report["test_accuracy[%]"] == lines[-1]["test_accuracy[%]"]
    assert report["weights_equal_golden"] is None  # the model has nothing to be compared with
    assert report["cycles_per_sample"] is None
    layers = report["counters"]["layers"]
    # The bound by its definition: events x groups x (1 + fraction learned), of the slowest layer.
    bounds = [
        layer["events"] / 200 * groups * (1 + layer["learned"] / 200)
        for layer, groups in zip(layers, (4, 3), strict=True)
    ]
    assert report["event_bound_cycles"] == pytest.approx(max(bounds), abs=0.01)
    assert report["learned_fraction"] == [layer["learned"] / 200 for layer in layers]
    assert all(layer["learned"] + layer["skipped"] == 200 for layer in layers)


def test_digits_learn(tmp_path: Path, digits: Dataset) -> None:
    report = run_of(DIGITS, tmp_path / "run", digits, DIGITS.training.epochs)
    assert min(report["test_accuracy[%]"]) >= 95
