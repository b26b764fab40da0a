"""Training the float references side by side: every rule with every seed, each once, whatever interrupts it.

settings.json  what all runs have in common; a call with others is refused
runs.jsonl     a line for every run that is over: rule, seed, accuracy of each classifier
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from locallearn.host.datasets import Dataset, epoch_order
from locallearn.host.files import append_record, write_record
from locallearn.host.terminal import Terminal
from locallearn.quant import machine
from locallearn.quant.errors import DataError, RunError, SpecError
from locallearn.reference.layers import Conv, Dense
from locallearn.reference.rule import Rule
from locallearn.reference.rules import RULES

__all__ = ["Study", "run_study", "study_summary", "study_table"]

_Key = tuple[str, int]
"""Rule and seed."""

_TEST_BATCH = 1000
_BATCHES_SHOWN = 20
"""Between two movements of the progress bar."""


@dataclass(frozen=True)
class Study:
    """What all runs have in common.

    data      name of the data set
    held_out  what accuracies are measured on
    limit     training samples an epoch; None takes all
    hidden    layers: 128 is dense, conv32 a convolution of 5 x 5 with 32 channels and 2 x 2 max pooling
    epochs    passes over the data
    batch     samples an update
    rate      of Adam in the first epoch; it falls to 0 as a cosine does
    """

    data: str
    held_out: str
    limit: int | None
    hidden: tuple[str, ...]
    epochs: int
    batch: int
    rate: float


def run_study(
    study: Study, data: Dataset, rules: Sequence[str], seeds: Iterable[int], out: Path, terminal: Terminal
) -> list[dict[str, Any]]:
    """Run what `out` does not have yet, and return all the runs that were asked for.

    Raises SpecError for a rule or layers that there are not, DataError where convolutions meet no images, RunError
    where `out` holds runs of another study or cannot be written.
    """
    for name in rules:
        if name not in RULES:
            raise SpecError(f"{name}: no such rule; there is {', '.join(RULES)}")
    hidden = [_layer(word) for word in study.hidden]
    shape = _sample_shape(data, hidden)
    train, test = (_samples(*part, shape) for part in ((data.train_x, data.train_y), (data.test_x, data.test_y)))
    file = _open(study, out)
    runs = _read(file)
    wanted = [(name, seed) for name in rules for seed in seeds]
    for number, key in enumerate(wanted, 1):
        if key in runs:
            continue
        name, seed = key
        begun = time.monotonic()
        rule = RULES[name](shape, hidden, data.classes, seed)
        samples = min(study.limit or len(train[0]), len(train[0]))
        show = terminal.task(f"{number}/{len(wanted)}: {name}, seed {seed}", study.epochs * samples)
        _train(rule, study, seed, train, samples, show)
        accuracies = _accuracies(rule, *test)
        run = {
            "rule": name,
            "seed": seed,
            "test_accuracy[%]": accuracies,
            "wall_time[s]": round(time.monotonic() - begun, 1),
            "torch": metadata.version("torch"),
            "processor": machine.processor(),
        }
        append_record(file, run)
        runs[key] = run
        answers = "  ".join(f"{value:.2f} %" for value in accuracies)
        terminal.say(f"{name:22} seed {seed:2}   {answers}")
    return [runs[key] for key in wanted]


def study_summary(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each rule: mean and sample deviation over the seeds of each classifier's accuracy; one has none."""
    groups: dict[str, list[list[float]]] = {}
    for run in runs:
        groups.setdefault(run["rule"], []).append(run["test_accuracy[%]"])
    rows = []
    for rule, accuracies in groups.items():
        values = np.array(accuracies)
        spread = values.std(axis=0, ddof=1).round(3).tolist() if len(values) > 1 else None
        rows.append(
            {
                "rule": rule,
                "seeds": len(values),
                "mean_accuracy[%]": values.mean(axis=0).round(3).tolist(),
                "deviation[%]": spread,
            }
        )
    return rows


def study_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """`study_summary` for the terminal; a rule with one classifier has it in the last column."""
    columns = max(len(row["mean_accuracy[%]"]) for row in rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for title in ("seeds", *(f"layer {number} [%]" for number in range(columns))):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{mean:.2f}" for mean in row["mean_accuracy[%]"]]
        if row["deviation[%]"] is not None:
            cells = [f"{cell} ± {spread:.2f}" for cell, spread in zip(cells, row["deviation[%]"], strict=True)]
        table.add_row(row["rule"], str(row["seeds"]), *[""] * (columns - len(cells)), *cells)
    return table


# -- one run -----------------------------------------------------------------------------------------------


def _train(
    rule: Rule, study: Study, seed: int, train: tuple[Tensor, Tensor], samples: int, show: Callable[[int], None]
) -> None:
    x, labels = train
    optimiser = torch.optim.Adam(rule.parameters, lr=study.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, study.epochs)
    done = 0
    for epoch in range(study.epochs):
        order = torch.from_numpy(epoch_order(seed, epoch, len(x), samples))
        for part in order.split(_BATCHES_SHOWN * study.batch):
            rule.learn(x[part], labels[part], study.batch, optimiser)
            done += len(part)
            show(done)
        schedule.step()


def _accuracies(rule: Rule, x: Tensor, labels: Tensor) -> list[float]:
    with torch.inference_mode():
        answers = [[scores.argmax(1) for scores in rule.scores(part)] for part in x.split(_TEST_BATCH)]
    each = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return [round(100 * (answer == labels).double().mean().item(), 3) for answer in each]


def _layer(word: str) -> Dense | Conv:
    found = re.fullmatch(r"(conv)?([1-9]\d*)", word)
    if not found:
        raise SpecError(f"{word}: no layer; 128 is a dense one, conv32 a convolution with 32 channels")
    return Conv(int(found[2])) if found[1] else Dense(int(found[2]))


def _sample_shape(data: Dataset, hidden: Sequence[Dense | Conv]) -> tuple[int, ...]:
    """(channels, rows, columns), or (size,) where no layer is a convolution."""
    convolutions = [isinstance(layer, Conv) for layer in hidden]
    depth = sum(convolutions)
    if not depth:
        return (data.size,)
    if not all(convolutions[:depth]):
        raise SpecError("convolutions must be the first layers: a dense layer leaves no rows and columns")
    channels, rows, columns = (1, 1, *data.shape)[-3:] if len(data.shape) > 1 else (0, 0, 0)
    if min(rows, columns) >> depth == 0:
        raise DataError(
            f"{data.name} has samples of {' x '.join(map(str, data.shape))}: {depth} times halved, nothing is left of "
            "their rows and columns"
        )
    return channels, rows, columns


def _samples(pixels: NDArray[np.uint8], labels: NDArray[np.int64], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Pixels from 0 to 1."""
    assert math.prod(shape) == pixels.shape[1]
    return torch.tensor(pixels).float().div_(255).view(-1, *shape), torch.tensor(labels)


# -- the folder --------------------------------------------------------------------------------------------


def _open(study: Study, out: Path) -> Path:
    """runs.jsonl; settings.json is written, or compared with what is there."""
    file = out / "settings.json"
    wanted = json.loads(json.dumps(asdict(study)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_record(file, wanted)
        there = json.loads(file.read_text())
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from None
    except ValueError:
        raise RunError(f"{file}: damaged") from None
    for name, value in wanted.items():
        if there.get(name) != value:
            raise RunError(f"{out} has runs with {name} = {there.get(name)}, not {value}: name another --out")
    return out / "runs.jsonl"


def _read(file: Path) -> dict[_Key, dict[str, Any]]:
    """Whole lines; what was being written when the process was killed is taken away, and is run again."""
    runs: dict[_Key, dict[str, Any]] = {}
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    for line in whole.splitlines():
        try:
            run = json.loads(line)
            runs[run["rule"], run["seed"]] = run
        except (ValueError, KeyError):
            raise RunError(f"{file}: damaged: {line[:40]}") from None
    return runs
