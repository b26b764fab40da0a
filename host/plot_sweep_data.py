"""A sweep's trials, grouped into configurations: what differs only in its seed is one."""

import csv
import json
import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.sweep_spec import SEED
from locallearn.quant.errors import RunError

__all__ = ["TRIALS", "Configuration", "Sweep", "field_name", "read_sweep", "sample_deviation"]

TRIALS = "trials.csv"


@dataclass(frozen=True)
class Configuration:
    """The complete trials of one choice of values.

    values    what was varied, by path
    names     the values as pictures call them
    memory    weights, in bits
    accuracy  (seeds, layers) held out, in %
    folders   the trials' run folders
    """

    values: dict[str, Any]
    names: dict[str, str]
    memory: int
    accuracy: NDArray[np.float64]
    folders: list[Path]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(layers,) in %."""
        mean: NDArray[np.float64] = self.accuracy.mean(0)
        return mean

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(layers,) in %, over the seeds."""
        return sample_deviation(self.accuracy)

    @property
    def best(self) -> float:
        """Mean accuracy of the best layer, in %."""
        return float(self.mean.max())

    def name(self, fields: Sequence[str]) -> str:
        """What it is among those that differ in `fields`."""
        return ", ".join(f"{field_name(f)} {self.names[f]}" for f in fields)

    def number(self, field: str) -> float | None:
        """The field's number: its value, or the bits of a number format."""
        value = self.values[field]
        if isinstance(value, dict):
            value = value.get("bits")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Sweep:
    """fields: the paths that really vary, seeds apart; missing: what trials have no result, in a sentence."""

    fields: list[str]
    configurations: list[Configuration]
    missing: str | None

    @property
    def layers(self) -> int:
        return max(len(c.mean) for c in self.configurations)

    @property
    def seeds(self) -> str:
        """How many each configuration has."""
        counts = sorted({len(c.accuracy) for c in self.configurations})
        return _plural(counts[-1], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"

    def is_numeric(self, field: str) -> bool:
        """Whether it is a number everywhere, and not always the same."""
        numbers = {c.number(field) for c in self.configurations}
        return None not in numbers and len(numbers) > 1

    def groups(self, fields: Sequence[str]) -> dict[str, list[Configuration]]:
        """The configurations by their name among `fields`; numbers ascend, others keep the order of the trials."""
        groups: dict[str, list[Configuration]] = {}
        for c in sorted(self.configurations, key=lambda c: [c.number(f) or 0.0 for f in fields]):
            groups.setdefault(c.name(fields), []).append(c)
        return groups


def sample_deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis; of a single one it is not known, which is NaN."""
    if len(values) == 1:
        return np.full(values.shape[1:], np.nan)
    deviation: NDArray[np.float64] = values.std(0, ddof=1)
    return deviation


def field_name(field: str) -> str:
    """A path as pictures call it."""
    return field.removeprefix("training.").removeprefix("layers.*.")


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _names(cells: set[str]) -> dict[str, str]:
    """Of a field's values, as JSON: formats by their bits, layers by their neurons, where that tells them apart."""
    names = {}
    for cell in cells:
        match json.loads(cell):
            case {"bits": bits}:
                names[cell] = f"{bits} bits"
            case [{"neurons": _}, *_] as layers:
                names[cell] = "-".join(str(layer["neurons"]) for layer in layers)
            case _:
                names[cell] = cell.replace('"', "")
    return names if len(set(names.values())) == len(cells) else {cell: cell.replace('"', "") for cell in cells}


def read_sweep(folder: Path) -> Sweep:
    """Raises RunError where trials.csv is damaged or has no complete trial."""
    path = folder / TRIALS
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
        fields = columns[columns.index("state") + 1 : columns.index("epochs")]
        fields = [f for f in fields if f != SEED and len({row[f] for row in rows}) > 1]
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in rows:
            if row["state"] == "complete":
                groups.setdefault(tuple(row[f] for f in fields), []).append(row)
        names = {f: _names({row[f] for row in rows}) for f in fields}
        configurations = [_configuration(folder, names, group) for group in groups.values()]
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{path}: not the trials of a sweep: {error!r}") from None
    if not configurations:
        raise RunError(f"{path}: none of {_plural(len(rows), 'trial')} is complete, at least one is needed")
    return Sweep(fields, configurations, _missing(folder, [row["state"] for row in rows]))


def _missing(folder: Path, states: list[str]) -> str | None:
    """What trials have no result; the sweep's own file tells how many there are to be."""
    counts = Counter(state for state in states if state not in ("complete", "repeated"))
    counts["not run"] = max(0, _planned(folder) - len(states))
    if not counts.total():
        return None
    reasons = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{counts.total()} of {_plural(len(states) + counts['not run'], 'trial')} missing ({reasons})"


def _planned(folder: Path) -> int:
    """Trials, seeds included, that sweep.toml asks for; 0 where the tables stand alone."""
    path = folder / "sweep.toml"
    if not path.exists():
        return 0
    try:
        table = tomllib.loads(path.read_text())
        choices = {field: len(values) for field, values in table["vary"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RunError(f"{path}: not the file of a sweep: {error!r}") from None
    seeds = choices.pop(SEED, 1)
    return seeds * int(table.get("trials", math.prod(choices.values())))


def _configuration(folder: Path, names: dict[str, dict[str, str]], rows: list[dict[str, str]]) -> Configuration:
    """Of the trials `rows`, which have the same values; `names` are those of every field's values."""
    first = rows[0]
    # A network with fewer layers than another leaves the last columns empty.
    layers = [column for column in first if column.startswith("accuracy[") and first[column]]
    return Configuration(
        {field: json.loads(first[field]) for field in names},
        {field: name[first[field]] for field, name in names.items()},
        int(first["weight_memory[bits]"]),
        np.array([[float(row[column]) for column in layers] for row in rows]),
        [folder / "trials" / f"{int(row['trial']):04}" for row in rows],
    )
