"""The folder of a training run: what was trained, how it went, and what came out.

spec.toml      the description, seed included
metrics.jsonl  one JSON object an epoch
weights.npz    layer_0, layer_1, ...: (neurons, fan_in) integers, biases last; classifier_0, ...: (neurons, classes)
               of those that learn
confusion.npz  layer_0, layer_1, ...: (classes, classes), how many held-out samples there are of each
               [label, predicted] after the last epoch that was finished
report.json    the summary
checkpoint-0, checkpoint-1  where the run is, see `checkpoint`, until it is complete
exits.json     what `exits` measured last: data, held_out, device and its points
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.files import Replacing, append_record, write_record
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
    def has_report(self) -> bool:
        """The run came to an end, if by being interrupted."""
        return (self.path / "report.json").exists()

    @property
    def report(self) -> dict[str, Any]:
        return self._json("report.json")

    def weights(self) -> list[NDArray[np.int32]]:
        """All that was learned, as `NetworkPlan.arrays` lists it; checked against the description."""
        plan = NetworkPlan(self.spec)
        found = self._load("weights.npz", plan.arrays)
        forms = [layer.weight_format for layer in plan.layers]
        forms += [layer.classifier.format for layer in plan.learned_matrices]
        for name, values, form in zip(plan.arrays, found, forms, strict=True):
            if values.dtype.kind not in "iu" or values.min(initial=0) < form.min or values.max(initial=0) > form.max:
                raise RunError(f"{self.path / 'weights.npz'}: {name} is not of integers from {form.min} to {form.max}")
        return [values.astype(np.int32) for values in found]

    def confusion(self) -> list[NDArray[np.int64]]:
        """Of every layer, as it was saved; there is none before an epoch is finished."""
        spec = self.spec
        shapes = {f"layer_{number}": (spec.classes,) * 2 for number in range(len(spec.layers))}
        return [values.astype(np.int64) for values in self._load("confusion.npz", shapes)]

    def add_metrics(self, metrics: dict[str, Any]) -> None:
        """Append one epoch."""
        append_record(self.path / "metrics.jsonl", metrics)

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Of so many epochs, the first, and return them; what a run that goes on does again is dropped."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)[:epochs] if path.exists() else []
        try:
            metrics = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{path}: not JSON: {error}") from None
        if [line.get("epoch") for line in metrics] != list(range(1, epochs + 1)):
            raise RunError(f"{path}: needed are the metrics of epochs 1 to {epochs}")
        with Replacing(path) as temporary:
            temporary.write_bytes(b"".join(lines))
        return metrics

    def save_exits(self, exits: dict[str, Any]) -> None:
        write_record(self.path / "exits.json", exits)

    def exits(self) -> dict[str, Any]:
        """As it was saved."""
        return self._json("exits.json")

    def save_spec(self, spec: NetworkSpec) -> None:
        with Replacing(self.path / "spec.toml") as temporary:
            temporary.write_text(spec.to_toml())

    def save_weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        self._save("weights.npz", dict(zip(NetworkPlan(self.spec).arrays, weights, strict=True)))

    def save_confusion(self, confusion: Sequence[NDArray[np.int64]]) -> None:
        self._save("confusion.npz", {f"layer_{number}": counts for number, counts in enumerate(confusion)})

    def save_report(self, report: dict[str, Any]) -> None:
        write_record(self.path / "report.json", report)

    def _save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        with Replacing(self.path / name) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)

    def _load(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> list[NDArray[Any]]:
        path = self.path / name
        self._read(name)
        found = []
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for array, shape in shapes.items():
                    values = arrays[array]
                    if values.shape != shape:
                        raise RunError(f"{path}: {array} has shape {values.shape}, {shape} is needed")
                    found.append(values)
        except RunError:
            raise
        except Exception as error:  # NumPy raises what its zip and header readers raise
            raise RunError(f"{path}: cannot be read: {error}") from None
        return found

    def _json(self, name: str) -> dict[str, Any]:
        try:
            table = json.loads(self._read(name))
        except ValueError as error:
            raise RunError(f"{self.path / name}: not JSON: {error}") from None
        if not isinstance(table, dict):
            raise RunError(f"{self.path / name}: not a JSON object")
        return table

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(
                f"{self.path / name}: cannot be read: {error.strerror}; a run folder is what train --out makes"
            ) from None
