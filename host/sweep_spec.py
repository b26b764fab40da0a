"""What a sweep tries: the file that describes it, and every combination of its values.

    spec = "mnist"              # a preset, or a .toml file beside this one
    validation = 10000          # optional, as everything down to [set]
    [set]
    "training.decay" = [0, 0, 1, 2]
    [vary]
    "layers.0.rate_shift" = [7, 8, 9]
    "weight" = [{ bits = 8, fraction = 7 }, { bits = 12, fraction = 11 }]
    "training.seed" = [1, 2, 3]

Paths are those of `NetworkSpec.replaced`. The class `Sweep` has the other fields and their defaults.
"""

import itertools
import json
import math
import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from locallearn.host.datasets import NAMES
from locallearn.quant.checks import check_keys
from locallearn.quant.errors import SpecError
from locallearn.quant.spec import NetworkSpec, load_spec, preset_names

__all__ = ["SEED", "Sweep", "Values", "load_sweep", "values_text"]

SEED = "training.seed"
"""The path whose values repeat a configuration instead of making another one."""

Values = dict[str, Any]
"""Values by their dotted paths into a description."""

_SEARCHES = ("grid", "random", "tpe")


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file describes it.

    name        the file's stem unless given: of the folder, and in a storage that is shared
    spec        the network, `set` included, before anything is varied
    data        as --data, a path being relative to the file; None takes what train takes
    validation  how many of the last training samples are held out instead of the test part, None for none
    epochs      passes over the data; None takes one for each entry of the description's decay
    limit       samples an epoch; None takes all
    device      as --device, model unless given
    search      grid: every combination; random: `trials` different ones, always the same;
                tpe: `trials`, each chosen by what the ones before have reached
    trials      configurations, every one with each seed; None for a grid, which has as many as there are
    objective   best: the best layer's accuracy; last: the last layer's; or a layer's number
    vary        what each path is tried with
    """

    name: str
    spec: NetworkSpec
    data: str | None
    validation: int | None
    epochs: int | None
    limit: int | None
    device: str
    search: str
    trials: int | None
    objective: str | int
    vary: Mapping[str, tuple[Any, ...]]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """That every configuration is run with; none where the description's own is not varied."""
        return self.vary.get(SEED, ())

    @cached_property
    def configurations(self) -> list[Values]:
        """All that are tried, seeds aside, in the file's order; the last path changes fastest. Not for tpe."""
        paths = [path for path in self.vary if path != SEED]
        if self.trials is None:
            choices = itertools.product(*(self.vary[path] for path in paths))
            return [dict(zip(paths, choice, strict=True)) for choice in choices]
        picked = random.Random(0).sample(range(self.combinations), self.trials)
        return [self._combination(paths, number) for number in picked]

    @property
    def slots(self) -> int:
        """How many trials there are: points, or with tpe configurations."""
        if self.search != "tpe":
            return len(self.points)
        assert self.trials is not None
        return self.trials

    def runs(self, slot: int, values: Values) -> dict[int, Values]:
        """What a trial runs, by the numbers of the runs: with tpe, which needs the mean, every seed."""
        points = self.with_seeds(values) if self.search == "tpe" else [values]
        return dict(enumerate(points, slot * len(points)))

    @property
    def combinations(self) -> int:
        """How many different configurations there are, seeds aside."""
        return math.prod(len(choices) for path, choices in self.vary.items() if path != SEED)

    @cached_property
    def points(self) -> list[Values]:
        """Every combination that is run, seeds included. Not for tpe, which chooses them as it goes."""
        return [point for values in self.configurations for point in self.with_seeds(values)]

    def with_seeds(self, values: Values) -> list[Values]:
        """A configuration with each of the seeds, paths in the file's order."""
        if not self.seeds:
            return [values]
        return [{path: ({SEED: seed} | values)[path] for path in self.vary} for seed in self.seeds]

    def spec_of(self, values: Values) -> NetworkSpec:
        """The description with these values. Raises SpecError, naming the values, where it is impossible."""
        try:
            spec = self.spec.replaced(values)
        except SpecError as error:
            raise SpecError(f"{values_text(values)}: {error}") from None
        if isinstance(self.objective, int) and self.objective >= len(spec.layers):
            layers = len(spec.layers)
            raise SpecError(f"{values_text(values)}: objective = {self.objective}: layers are 0 to {layers - 1}")
        return spec

    def check(self) -> list[NetworkSpec]:
        """The descriptions of all points; those that tpe may choose are too many, so the first values stand for them.

        Raises SpecError for the first that is impossible.
        """
        if self.search == "tpe":
            return [self.spec_of({path: choices[0] for path, choices in self.vary.items()})]
        return [self.spec_of(point) for point in self.points]

    def score(self, accuracy: list[float]) -> float:
        """What the search maximises, of every layer's accuracy."""
        if self.objective == "best":
            return max(accuracy)
        return accuracy[-1 if self.objective == "last" else int(self.objective)]

    @property
    def identity(self) -> str:
        """Equal where a sweep that was begun may be gone on with."""
        table = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(table | {"spec": self.spec.to_toml()}, sort_keys=True)

    def _combination(self, paths: list[str], number: int) -> Values:
        values = {}
        for path in reversed(paths):
            number, choice = divmod(number, len(self.vary[path]))
            values[path] = self.vary[path][choice]
        return {path: values[path] for path in paths}


def values_text(values: Values) -> str:
    """For messages: `layers.0.lanes = 16, training.seed = 1`."""
    return ", ".join(f"{path} = {json.dumps(value)}" for path, value in values.items())


def load_sweep(path: Path) -> Sweep:
    """Read a sweep's file. Raises SpecError, naming what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not TOML: {error}") from None
    try:
        return _sweep(table, path)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _sweep(table: dict[str, Any], path: Path) -> Sweep:
    check_keys("", table, {field.name for field in fields(Sweep)} | {"set"}, set())
    source = _text(table, "spec", None)
    if source is None:
        raise SpecError("spec is missing: a preset or a .toml file")
    settings = _table(table, "set")
    if isinstance(settings.get("training"), dict):
        # TOML reads the dots of a bare key as tables, and a table would reset the section's other fields.
        raise SpecError('set.training: a path must stand in quotes, such as "training.decay" = [0, 1]')
    name = _text(table, "name", path.stem)
    if not name or "/" in name:
        raise SpecError(f"name = {name!r}: must be usable as a folder's name")
    spec = load_spec(source if source in preset_names() else path.parent / source)
    try:
        spec = spec.replaced(settings)
    except SpecError as error:
        raise SpecError(f"set: {error}") from None
    sweep = Sweep(
        name=name,
        spec=spec,
        data=_data(table, path.parent),
        validation=_whole(table, "validation"),
        epochs=_whole(table, "epochs"),
        limit=_whole(table, "limit"),
        device=_text(table, "device", None) or "model",
        search=_text(table, "search", None) or "grid",
        trials=_whole(table, "trials"),
        objective=table.get("objective", "best"),
        vary=_choices(_table(table, "vary"), settings),
    )
    _check_search(sweep)
    return sweep


def _check_search(sweep: Sweep) -> None:
    if sweep.search not in _SEARCHES:
        raise SpecError(f"search = {sweep.search!r}: must be one of {', '.join(_SEARCHES)}")
    if sweep.search == "grid" and sweep.trials is not None:
        raise SpecError(f"trials = {sweep.trials}: a grid runs every combination; search must be random or tpe")
    if sweep.search != "grid" and sweep.trials is None:
        raise SpecError(f'trials is missing: search = "{sweep.search}" needs how many configurations to try')
    if sweep.search == "random" and sweep.trials is not None and sweep.trials > sweep.combinations:
        raise SpecError(
            f"trials = {sweep.trials}: there are only {sweep.combinations} combinations, grid runs them all"
        )
    layer = isinstance(sweep.objective, int) and not isinstance(sweep.objective, bool) and sweep.objective >= 0
    if not layer and sweep.objective not in ("best", "last"):
        raise SpecError(f'objective = {sweep.objective!r}: must be "best", "last" or a layer\'s number')


def _choices(vary: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    if not vary:
        raise SpecError('[vary] is missing: lists of values by path, such as "training.seed" = [1, 2, 3]')
    for path, choices in vary.items():
        if not isinstance(choices, list) or not choices:
            raise SpecError(
                f'vary.{path}: must be a list of values with its path in quotes, such as "layers.0.lanes" = [8, 16]'
            )
        if path in settings:
            raise SpecError(f"{path} stands in [set] and in [vary]")
        texts = []
        for choice in choices:
            try:
                texts.append(json.dumps(choice))
            except TypeError:  # TOML's dates and times
                raise SpecError(f"vary.{path}: {choice} is no value of a description") from None
            if texts[-1] in texts[:-1]:
                raise SpecError(f"vary.{path}: {texts[-1]} stands there twice")
    return {path: tuple(choices) for path, choices in vary.items()}


def _data(table: dict[str, Any], folder: Path) -> str | None:
    """A name, or a path from the sweep's file on."""
    source = _text(table, "data", None)
    if source is None or source in NAMES or not (folder / source).exists():
        return source
    return str(folder / source)


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise SpecError(f"{key} = {value!r}: must be a table, [{key}]")
    return value


def _text(table: dict[str, Any], key: str, default: str | None) -> str | None:
    value = table.get(key, default)
    if value is not None and not isinstance(value, str):
        raise SpecError(f"{key} = {value!r}: must be a text")
    return value


def _whole(table: dict[str, Any], key: str) -> int | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SpecError(f"{key} = {value!r}: must be a whole number, at least 1")
    return value
