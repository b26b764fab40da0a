"""What a run's pictures show, read from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.run import Run
from locallearn.quant.errors import RunError

__all__ = ["METRICS", "Curves", "Origin", "read_curves", "read_origin"]

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Curves:
    """The finished epochs of a run.

    epochs                    (epochs,) integers
    decay                     (epochs, layers) integers
    held_out, train, learned  (epochs, layers) in %: accuracies, and the samples that were learned from
    """

    epochs: NDArray[np.int64]
    decay: NDArray[np.int64]
    held_out: NDArray[np.float64]
    train: NDArray[np.float64]
    learned: NDArray[np.float64]


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
            np.array([line["decay"] for line in epochs], np.int64),
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
