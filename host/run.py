"""The folder of a training run: what was trained, how it went, and what came out.

spec.toml      the description, seed included
metrics.jsonl  one JSON object an epoch
weights.npz    layer_0, layer_1, ...: (neurons, fan_in) integers, biases last
confusion.npz  layer_0, layer_1, ...: (classes, classes), how many held-out samples there are of each
               [label, predicted] after the last epoch that was finished
report.json    the summary
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.errors import RunError
from locallearn.quant.plan import LayerPlan, NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["Run"]


class Run:
    """A run's folder. Raises RunError where it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def create(path: Path) -> "Run":
        """A new folder; an existing one must be empty, so that no run overwrites another."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunError(f"{path}: not empty; name a new folder with --out")
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None
        return Run(path)

    @staticmethod
    def create_under(parent: Path, name: str) -> "Run":
        """A new folder NAME-DATE-TIME, numbered where several runs begin in the same second."""
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        path, number = parent / stem, 1
        while True:
            try:
                path.mkdir(parents=True)
                return Run(path)
            except FileExistsError:
                number += 1
                path = parent / f"{stem}-{number}"
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}") from None

    @property
    def spec(self) -> NetworkSpec:
        return NetworkSpec.from_toml(self._read("spec.toml").decode(), str(self.path / "spec.toml"))

    @property
    def report(self) -> dict[str, Any]:
        try:
            report = json.loads(self._read("report.json"))
        except ValueError as error:
            raise RunError(f"{self.path / 'report.json'}: not JSON: {error}") from None
        if not isinstance(report, dict):
            raise RunError(f"{self.path / 'report.json'}: not a JSON object")
        return report

    def weights(self) -> list[NDArray[np.int32]]:
        """Of every layer, as they were saved; checked against the description."""
        layers = self._load_layers("weights.npz", lambda plan: (plan.neurons, plan.fan_in))
        return [values.astype(np.int32) for values in layers]

    def confusion(self) -> list[NDArray[np.int64]]:
        """Of every layer, as it was saved; there is none before an epoch is finished."""
        classes = self.spec.classes
        return [values.astype(np.int64) for values in self._load_layers("confusion.npz", lambda plan: (classes,) * 2)]

    def add_metrics(self, metrics: dict[str, Any]) -> None:
        """Append one epoch."""
        try:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise RunError(f"{self.path / 'metrics.jsonl'}: cannot be written: {error.strerror}") from None

    def save_spec(self, spec: NetworkSpec) -> None:
        with self._replacing("spec.toml") as temporary:
            temporary.write_text(spec.to_toml())

    def save_weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        self._save_layers("weights.npz", weights)

    def save_confusion(self, confusion: Sequence[NDArray[np.int64]]) -> None:
        self._save_layers("confusion.npz", confusion)

    def save_report(self, report: dict[str, Any]) -> None:
        with self._replacing("report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")

    def _save_layers(self, name: str, layers: Sequence[NDArray[Any]]) -> None:
        with self._replacing(name) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **{f"layer_{i}": a for i, a in enumerate(layers)})

    def _load_layers(self, name: str, shape: Callable[[LayerPlan], tuple[int, ...]]) -> list[NDArray[Any]]:
        plans, path = NetworkPlan(self.spec).layers, self.path / name
        self._read(name)
        layers = []
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for plan in plans:
                    values = arrays[f"layer_{plan.index}"]
                    if values.shape != shape(plan):
                        raise RunError(f"{path}: layer_{plan.index} has shape {values.shape}, {shape(plan)} is needed")
                    layers.append(values)
        except RunError:
            raise
        except Exception as error:  # NumPy raises what its zip and header readers raise
            raise RunError(f"{path}: cannot be read: {error}") from None
        return layers

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(
                f"{self.path / name}: cannot be read: {error.strerror}; a run folder is what train --out makes"
            ) from None

    def _replacing(self, name: str) -> "_Replacing":
        return _Replacing(self.path / name)


class _Replacing:
    """Write beside the file and move it into place, so that a reader sees the old one or the whole new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.partial{path.suffix}")

    def __enter__(self) -> Path:
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"{self._path}: cannot be written: {error.strerror}") from None
