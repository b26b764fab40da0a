"""What came out of a sweep: a row for every run, a row for every configuration, and a table for the terminal."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from locallearn.host.sweep_spec import SEED, Sweep
from locallearn.quant.errors import RunError

__all__ = ["Row", "run_rows", "summary_rows", "summary_table", "write_rows"]

Row = dict[str, Any]
"""A table's row by its columns; None and columns that are missing are empty fields."""

_STATES = {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed", TrialState.PRUNED: "impossible"}


def run_rows(sweep: Sweep, ended: Mapping[int, FrozenTrial]) -> list[Row]:
    """Every run that is over, as trials.csv has it; values of what is varied are JSON.

    ended  Optuna's trial by slot, as `SweepStore.ended` returns them

    state is complete, failed, impossible (tpe chose values that make no network) or repeated (tpe chose what it
    had chosen before: the figures and the folder are those of the first time).
    """
    rows = []
    for slot, trial in ended.items():
        params = {path: json.loads(text) for path, text in trial.params.items()}
        points = sweep.runs(slot, {path: params[path] for path in sweep.vary if path in params})
        runs = trial.user_attrs.get("runs", [{}] * len(points))
        for (number, point), run in zip(points.items(), runs, strict=True):
            row: Row = {
                "trial": number,
                "state": "repeated" if "repeats" in trial.user_attrs else _STATES[trial.state],
                **{path: json.dumps(value) for path, value in point.items()},
            }
            for column in ("epochs", "weight_memory[bits]", "multipliers"):
                row[column] = run.get(column)
            row |= {f"accuracy[{layer}][%]": value for layer, value in enumerate(run.get("accuracy[%]", []))}
            for column in ("throughput[samples/s]", "folder"):
                row[column] = run.get(column)
            rows.append(row)
    return rows


def summary_rows(sweep: Sweep, ended: Mapping[int, FrozenTrial]) -> list[Row]:
    """Every configuration with its complete runs: mean and sample deviation of each layer over the seeds.

    In the file's order, or best first where it was searched.
    """
    complete = [trial for trial in ended.values() if trial.state == TrialState.COMPLETE]
    groups: dict[str, tuple[dict[str, str], list[Row]]] = {}
    for trial in complete:
        if "repeats" not in trial.user_attrs:
            texts = {path: trial.params[path] for path in sweep.vary if path != SEED}
            groups.setdefault(json.dumps(texts), (texts, []))[1].extend(trial.user_attrs["runs"])
    scored = []
    for texts, runs in groups.values():
        accuracy = np.array([run["accuracy[%]"] for run in runs])
        mean = accuracy.mean(axis=0)
        row: Row = {**texts, "seeds": len(runs)}
        row |= {column: runs[0][column] for column in ("weight_memory[bits]", "multipliers")}
        for layer in range(len(mean)):
            row[f"mean[{layer}][%]"] = round(float(mean[layer]), 4)
            deviation = None if len(runs) == 1 else round(float(accuracy[:, layer].std(ddof=1)), 4)
            row[f"deviation[{layer}][%]"] = deviation
        scored.append((sweep.score(mean.tolist()), row))
    if sweep.search != "grid":
        scored.sort(key=lambda pair: -pair[0])
    return [row for _, row in scored]


def summary_table(sweep: Sweep, rows: Sequence[Row]) -> Table:
    """The summary as the terminal shows it."""
    paths = [path for path in sweep.vary if path != SEED]
    layers = max((sum(column.startswith("mean[") for column in row) for row in rows), default=0)
    table = Table(title=sweep.name)
    for path in paths:
        table.add_column(path, overflow="fold")
    for column in ("seeds", "weights [bits]", "multipliers", *(f"layer {layer} [%]" for layer in range(layers))):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [row[path] for path in paths]
        cells += [str(row[column]) for column in ("seeds", "weight_memory[bits]", "multipliers")]
        for layer in range(layers):
            mean, deviation = row.get(f"mean[{layer}][%]"), row.get(f"deviation[{layer}][%]")
            cells.append("" if mean is None else f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}"))
        table.add_row(*cells)
    return table


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """As CSV; a reader sees the old table or the whole new one. Raises RunError where it cannot be written."""
    widest = max(rows, key=len, default={})
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(widest), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None
