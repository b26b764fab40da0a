"""The folder of a training run: what was trained, how it went, and what came out.

spec.toml      the description, seed included
metrics.jsonl  one JSON object an epoch
weights.npz    layer_0, layer_1, ...: (neurons, fan_in) integers, biases last
report.json    the summary
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.errors import RunError
from locallearn.quant.plan import NetworkPlan
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
        spec, path = self.spec, self.path / "weights.npz"
        self._read("weights.npz")
        weights = []
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for plan in NetworkPlan(spec).layers:
                    values = arrays[f"layer_{plan.index}"]
                    needed = (plan.neurons, plan.fan_in)
                    if values.shape != needed:
                        raise RunError(f"{path}: layer_{plan.index} has shape {values.shape}, {needed} is needed")
                    weights.append(values.astype(np.int32))
        except RunError:
            raise
        except Exception as error:  # NumPy raises what its zip and header readers raise
            raise RunError(f"{path}: cannot be read: {error}") from None
        return weights

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
        with self._replacing("weights.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **{f"layer_{i}": w for i, w in enumerate(weights)})

    def save_report(self, report: dict[str, Any]) -> None:
        with self._replacing("report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")

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
