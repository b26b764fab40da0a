"""What a run's pictures show, read from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.run import Run
from locallearn.quant.errors import RunError

__all__ = ["METRICS", "Curves", "ExitCurve", "Origin", "read_curves", "read_exits", "read_origin"]

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Curves:
    """The finished epochs of a run.

    epochs                    (epochs,) integers
    decay                     (epochs, layers)
    held_out, train, learned  (epochs, layers) in %: accuracies, and the samples that were learned from
    """

    epochs: NDArray[np.int64]
    decay: NDArray[np.float64]
    held_out: NDArray[np.float64]
    train: NDArray[np.float64]
    learned: NDArray[np.float64]


@dataclass(frozen=True)
class ExitCurve:
    """What `exits` measured, from the first point to the one without any exit.

    names     (points,) of the thresholds
    cost      (points,) of a sample in `unit`: a chip's latency or the weights that are read
    accuracy  (points,) in %
    answered  (points, layers) in %
    data      a sentence
    """

    names: list[str]
    unit: str
    cost: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    answered: NDArray[np.float64]
    data: str


@dataclass(frozen=True)
class Origin:
    """Where figures come from, for their titles; `data` is a sentence."""

    spec: str
    seed: int
    data: str


def read_curves(folder: Path) -> Curves:
    """Raises RunError where metrics.jsonl is missing, damaged, or has no finished epoch."""
    path = folder / METRICS
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        # An interrupted epoch was not tested.
        epochs = [line for line in lines if line["test_accuracy[%]"] is not None]
        curves = Curves(
            np.array([line["epoch"] for line in epochs], np.int64),
            np.array([line["decay"] for line in epochs], np.float64),
            np.array([line["test_accuracy[%]"] for line in epochs], float),
            np.array([line["train_accuracy[%]"] for line in epochs], float),
            100 * np.array([line["learned_fraction"] for line in epochs], float),
        )
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the metrics of a run: {error!r}") from None
    if not epochs:
        raise RunError(f"{path}: no epoch is finished, at least one is needed")
    return curves


def read_exits(folder: Path) -> ExitCurve:
    """Raises RunError where exits.json is damaged."""
    measured = Run(folder).exits()
    try:
        points = measured["points"]
        timed = points[0]["latency"] is not None
        return ExitCurve(
            ["no exit" if point["odds"] is None else f"{point['odds']:g}" for point in points],
            "cycles from a sample to its result" if timed else "weights read for a sample",
            np.array([point["latency" if timed else "words"] for point in points], float),
            np.array([point["accuracy"] for point in points], float),
            np.array([point["answered"] for point in points], float),
            f"data: {measured['data']}, held out: {measured['held_out']}, on {measured['device']}",
        )
    except (KeyError, TypeError, IndexError) as error:
        raise RunError(f"{folder / 'exits.json'}: not what `exits` writes: {error!r}") from None


def read_origin(folder: Path) -> Origin:
    """From the report, or from the description where the run has none yet."""
    run = Run(folder)
    if not (folder / "report.json").exists():
        spec = run.spec
        return Origin(spec.name, spec.training.seed, "the run is not finished")
    report: dict[str, Any] = run.report
    try:
        data = f"data: {report['data']}, held out: {report['held_out']}"
        return Origin(report["spec"], report["seed"], data)
    except KeyError as error:
        raise RunError(f"{folder / 'report.json'}: {error} is missing") from None
