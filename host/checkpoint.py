"""A training run between two samples, in a file: what it needs to go on as if nothing had happened.

A checkpoint is an .npz file behind its SHA-256: all that is learned, the states of all noise registers, and a record of
where the run is. A run's folder has two places for them, written in turn: whatever happens to one while it is written,
the other is whole.
"""

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from locallearn.host.datasets import Dataset
from locallearn.host.device import Counters
from locallearn.host.files import Replacing
from locallearn.host.run import Run
from locallearn.quant.errors import RunError
from locallearn.quant.network import LayerCounters
from locallearn.quant.spec import NetworkSpec
from locallearn.quant.state import State

__all__ = ["Checkpoint", "Pass", "newest_checkpoint", "remove_checkpoints"]

_NAMES = ("checkpoint-0", "checkpoint-1")
_DIGEST = sha256().digest_size
_ARRAY = "array_"
_REGISTERS = ("noise", "matrix_noise", "masks")


@dataclass(frozen=True)
class Pass:
    """What an epoch has come to so far.

    samples   learned from
    correct   of these, how many each layer got right
    counters  since the epoch's beginning, None before it
    seconds   that the samples took
    """

    samples: int
    correct: list[int]
    counters: Counters | None
    seconds: float

    @staticmethod
    def nothing(spec: NetworkSpec) -> "Pass":
        return Pass(0, [0] * len(spec.layers), None, 0.0)


@dataclass(frozen=True)
class Checkpoint:
    """A run between two samples.

    number            it is the run's so manieth
    spec              the description, in TOML
    data              `Dataset.checksum` of what it learns from
    device            its name
    epochs, limit     as `train` takes them
    origin            the same
    given             the run began with given weights, not with the seed's
    initial_accuracy  of these, once it is measured
    epoch             how many are finished
    under_way         of the next one
    state             of the network
    """

    number: int
    spec: str
    data: int
    device: str
    epochs: int
    limit: int | None
    origin: Mapping[str, Any]
    given: bool
    initial_accuracy: list[float] | None
    epoch: int
    under_way: Pass
    state: State

    def check(self, run: Run, data: Dataset) -> None:
        """Raises RunError where the run's description or its data are not what it began with."""
        if run.spec != NetworkSpec.from_toml(self.spec):
            raise RunError(f"{run.path / 'spec.toml'}: not the description that the run began with, that is needed")
        if data.checksum != self.data:
            raise RunError(f"{run.path}: {data.name} has other samples than those that the run began with")

    def save(self, folder: Path) -> None:
        """In place of the one before the last. Raises RunError where it cannot be written."""
        record = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "state"}
        arrays: dict[str, Any] = {f"{_ARRAY}{n}": array for n, array in enumerate(self.state.arrays)}
        for name in _REGISTERS:
            arrays[name] = np.array(getattr(self.state, name), np.uint64)
        file = io.BytesIO()
        text = json.dumps(record | {"under_way": asdict(self.under_way)}).encode()
        np.savez(file, **arrays, record=np.frombuffer(text, np.uint8))
        content = file.getvalue()
        with Replacing(folder / _NAMES[self.number % 2]) as temporary:
            temporary.write_bytes(sha256(content).digest() + content)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest one that is whole, and what is wrong with the other. Raises RunError where there is none."""
    found: list[Checkpoint] = []
    damaged: list[str] = []
    for name in _NAMES:
        try:
            found.append(_load(folder / name))
        except FileNotFoundError:
            continue
        except (OSError, RunError) as error:
            damaged.append(f"{folder / name}: {getattr(error, 'strerror', None) or error}")
    if not found:
        raise RunError("; ".join(damaged) or f"{folder}: no checkpoint, a run that `train` began has one")
    return max(found, key=lambda each: each.number), damaged


def remove_checkpoints(folder: Path) -> None:
    """Of a run that is complete; where they cannot be, they do no harm."""
    for name in _NAMES:
        with suppress(OSError):
            (folder / name).unlink()


def _load(path: Path) -> Checkpoint:
    raw = path.read_bytes()
    digest, content = raw[:_DIGEST], raw[_DIGEST:]
    if sha256(content).digest() != digest:
        raise RunError("damaged: its checksum is another one")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            record = json.loads(arrays["record"].tobytes())
            registers = {name: arrays[name].tolist() for name in _REGISTERS}
            learned = [arrays[name] for name in arrays.files if name.startswith(_ARRAY)]
        under_way = record.pop("under_way")
        if (counters := under_way["counters"]) is not None:
            layers = [LayerCounters(**layer) for layer in counters["layers"]]
            under_way["counters"] = Counters(**counters | {"layers": layers})
        return Checkpoint(**record, under_way=Pass(**under_way), state=State(learned, **registers))
    except (KeyError, TypeError, ValueError):  # it is whole, but its fields are others
        raise RunError("written by another version of locallearn") from None
