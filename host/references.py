"""Training the float references side by side: every rule with every seed, each once, whatever interrupts it.

settings.json  what all runs have in common; a call with others is refused
runs.jsonl     a line for every run that is over: rule, seed, accuracy of each classifier
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from locallearn.host.augment import augment
from locallearn.host.augment import check as check_images
from locallearn.host.datasets import Dataset, epoch_order
from locallearn.host.files import append_record, write_record
from locallearn.host.terminal import Terminal
from locallearn.quant import machine
from locallearn.quant.errors import DataError, RunError, SpecError
from locallearn.quant.spec import AugmentSpec, NetworkSpec
from locallearn.reference.hidden import described_layers, word_of
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
    hidden    layers
    epochs    passes over the data
    batch     samples an update
    rate      of Adam in the first epoch; it falls to 0 as a cosine does
    network   name of the description that the layers and all that follows come from, see `with_network`
    classes   scores of a classifier; None takes as many as the data have
    signed    a pixel x goes in as (x - 128) / 128; else as x / 255
    augment   what is done to training images at random, anew every epoch
    """

    data: str
    held_out: str
    limit: int | None
    hidden: tuple[Dense | Conv, ...]
    epochs: int
    batch: int
    rate: float
    network: str | None = None
    classes: int | None = None
    signed: bool = False
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    def with_network(self, spec: NetworkSpec) -> "Study":
        """The same with the network of a description, fed as the chip is. Raises SpecError as `described_layers`."""
        return replace(
            self,
            hidden=described_layers(spec),
            network=spec.name,
            classes=spec.classes,
            signed=spec.input.signed,
            augment=spec.training.augment,
        )

    @property
    def zero(self) -> int:
        """The pixel that goes in as 0."""
        return 128 if self.signed else 0

    @property
    def name(self) -> str:
        """Data and network, for a folder."""
        return "-".join([self.data, *([self.network] if self.network else self._words)])

    @property
    def settings(self) -> dict[str, Any]:
        """As settings.json has it."""
        return asdict(self) | {"hidden": self._words}

    @property
    def _words(self) -> list[str]:
        return [word_of(layer) for layer in self.hidden]


_BEFORE_NETWORKS = {"network": None, "classes": None, "signed": False, "augment": asdict(AugmentSpec())}
"""What a settings.json says that was written when there was nothing else."""


def run_study(
    study: Study, data: Dataset, rules: Sequence[str], seeds: Iterable[int], out: Path, terminal: Terminal
) -> list[dict[str, Any]]:
    """Run what `out` does not have yet, and return all the runs that were asked for.

    Raises SpecError for a rule that there is not or a convolution behind a dense layer, DataError where convolutions
    or the augmentation find too few rows and columns, RunError where `out` holds runs of another study or cannot be
    written.
    """
    for name in rules:
        if name not in RULES:
            raise SpecError(f"{name}: no such rule; there is {', '.join(RULES)}")
    shape = _sample_shape(data, study.hidden)
    check_images(data.shape, study.augment)
    file = _open(study, out)
    runs = _read(file)
    wanted = [(name, seed) for name in rules for seed in seeds]
    for number, key in enumerate(wanted, 1):
        if key in runs:
            continue
        name, seed = key
        begun = time.monotonic()
        rule = RULES[name](shape, study.hidden, study.classes or data.classes, seed)
        samples = min(study.limit or len(data.train_x), len(data.train_x))
        show = terminal.task(f"{number}/{len(wanted)}: {name}, seed {seed}", study.epochs * samples)
        _train(rule, study, seed, data, shape, show)
        accuracies = _accuracies(rule, study, data, shape)
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
        table.add_column(title, justify="right")
    for row in rows:
        cells = [f"{mean:.2f}" for mean in row["mean_accuracy[%]"]]
        if row["deviation[%]"] is not None:
            cells = [f"{cell} ± {spread:.2f}" for cell, spread in zip(cells, row["deviation[%]"], strict=True)]
        table.add_row(row["rule"], str(row["seeds"]), *[""] * (columns - len(cells)), *cells)
    return table


# -- one run -----------------------------------------------------------------------------------------------


def _train(
    rule: Rule, study: Study, seed: int, data: Dataset, shape: tuple[int, ...], show: Callable[[int], None]
) -> None:
    """All rules with one seed see the same images in the same order, and so does the chip with that seed."""
    optimiser = torch.optim.Adam(rule.parameters, lr=study.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, study.epochs)
    chunk = _BATCHES_SHOWN * study.batch
    done = 0
    for epoch in range(study.epochs):
        order = epoch_order(seed, epoch, len(data.train_x), study.limit)
        chance = np.random.default_rng([seed, epoch, 1])
        pixels = augment(data.train_x[order], data.shape, study.augment, chance, study.zero)
        labels = torch.from_numpy(data.train_y[order])
        for begin in range(0, len(order), chunk):
            x = _inputs(pixels[begin : begin + chunk], study, shape)
            rule.learn(x, labels[begin : begin + chunk], study.batch, optimiser)
            done += len(x)
            show(done)
        schedule.step()


def _accuracies(rule: Rule, study: Study, data: Dataset, shape: tuple[int, ...]) -> list[float]:
    answers = []
    with torch.inference_mode():
        for begin in range(0, len(data.test_x), _TEST_BATCH):
            x = _inputs(data.test_x[begin : begin + _TEST_BATCH], study, shape)
            answers.append([scores.argmax(1) for scores in rule.scores(x)])
    labels = torch.tensor(data.test_y)
    each = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return [round(100 * (answer == labels).double().mean().item(), 3) for answer in each]


def _inputs(pixels: NDArray[np.uint8], study: Study, shape: tuple[int, ...]) -> Tensor:
    """Pixels (n, size) as a network of the study takes them, (n, *shape). Of some at a time: floats are four bytes."""
    x = torch.tensor(pixels).float().view(-1, *shape)
    return x.sub_(128).div_(128) if study.signed else x.div_(255)


def _sample_shape(data: Dataset, hidden: Sequence[Dense | Conv]) -> tuple[int, ...]:
    """(channels, rows, columns), or (size,) where no layer is a convolution."""
    convolutions = [layer for layer in hidden if isinstance(layer, Conv)]
    if not convolutions:
        return (data.size,)
    if not all(isinstance(layer, Conv) for layer in hidden[: len(convolutions)]):
        raise SpecError("convolutions must be the first layers: a dense layer leaves no rows and columns")
    channels, *sides = (1, 1, *data.shape)[-3:] if len(data.shape) > 1 else (0, 0, 0)
    left = tuple(sides)
    for number, layer in enumerate(convolutions, 1):
        rows, columns = left = layer.output(*left)
        if min(rows, columns) < 1:
            raise DataError(
                f"{data.name} has samples of {' x '.join(map(str, data.shape))}: of their rows and columns nothing is "
                f"left behind convolution {number}"
            )
    return channels, *sides


# -- the folder --------------------------------------------------------------------------------------------


def _open(study: Study, out: Path) -> Path:
    """runs.jsonl; settings.json is written, or compared with what is there."""
    file = out / "settings.json"
    wanted = json.loads(json.dumps(study.settings))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_record(file, wanted)
        there = _BEFORE_NETWORKS | json.loads(file.read_text())
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
