"""Running a sweep: workers on this machine's cores, what they finish on the terminal, and the tables."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from locallearn.host.augment import check as check_images
from locallearn.host.datasets import check
from locallearn.host.stop import Stop
from locallearn.host.sweep_spec import Sweep
from locallearn.host.sweep_store import SweepStore
from locallearn.host.sweep_tables import run_rows, summary_rows, summary_table, write_rows
from locallearn.host.sweep_worker import Work
from locallearn.host.sweep_workers import Workers
from locallearn.host.terminal import Terminal, accuracies
from locallearn.quant.errors import RunError

__all__ = ["run_sweep"]

_POLL = 1.0
"""Seconds between two looks into the storage."""


def run_sweep(job: Work, file: Path, jobs: int, terminal: Terminal) -> dict[str, Any]:
    """Run what is left of a sweep. Ctrl-C or SIGTERM stop it; another call goes on where it was.

    file  of the sweep, for its copy in the folder
    jobs  worker processes

    Returns name, out, trials (how many there are), ended, failed (the message of each that failed, by its number),
    interrupted, and summary: the rows of summary.csv. Raises SpecError or DataError for a combination that is
    impossible, before anything runs; RunError where folder or storage hold another sweep or cannot be used.
    """
    terminal.stage("checking every combination")
    _check(job)
    _make_folder(job.folder, file)
    try:
        return _run(job, jobs, terminal)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise RunError(f"the sweep's storage fails: {str(error.__cause__ or error).splitlines()[0]}") from None


def _check(job: Work) -> None:
    data = job.load_data()
    for spec in job.sweep.check():
        check(data, spec)
        check_images(data.shape, spec.training.augment)


def _make_folder(folder: Path, file: Path) -> None:
    copy = folder / "sweep.toml"
    try:
        text = file.read_text()
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            temporary = copy.with_name(".sweep.partial.toml")
            temporary.write_text(text)
            temporary.replace(copy)
        elif tomllib.loads(copy.read_text()) != tomllib.loads(text):
            raise RunError(f"{folder}: holds another sweep than {file} describes now; name a new folder with --out")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}") from None


def _run(job: Work, jobs: int, terminal: Terminal) -> dict[str, Any]:
    sweep, folder = job.sweep, job.folder
    store = SweepStore(job.storage, sweep)
    terminal.stage("queueing trials")
    ended = store.begin()
    if ended:
        terminal.say(f"{len(ended)} of {sweep.slots} trials are there already")
    stop = Stop()
    with stop.listening(), Workers(job, min(jobs, sweep.slots - len(ended))) as workers:
        progress = terminal.task(_headline(sweep, ended), sweep.slots)
        fresh = bool(ended)
        while True:
            progress(len(ended))
            if fresh:
                _write_tables(folder, sweep, ended)
            if stop() or len(ended) == sweep.slots:
                break
            workers.tend(_POLL, fresh)
            before, ended = ended, store.tend()
            fresh = ended.keys() != before.keys()
            for slot in sorted(ended.keys() - before.keys()):
                _say_trial(terminal, sweep, slot, ended[slot])
            terminal.rename(_headline(sweep, ended))
        terminal.rename("waiting for the workers")
    if stop():
        # A worker may have come to its trial's end in the meantime.
        ended = store.tend()
        _write_tables(folder, sweep, ended)
    if len(ended) == sweep.slots:
        for left in folder.glob("trials/.*"):  # by processes that were killed
            shutil.rmtree(left, ignore_errors=True)
    rows = summary_rows(sweep, ended)
    if rows:
        terminal.show(summary_table(sweep, rows))
    return {
        "name": sweep.name,
        "out": str(folder),
        "trials": sweep.slots,
        "ended": len(ended),
        "failed": {
            run_rows(sweep, {slot: t})[0]["trial"]: t.user_attrs["error"]
            for slot, t in ended.items()
            if t.state == TrialState.FAIL
        },
        "interrupted": len(ended) < sweep.slots,
        "summary": rows,
    }


def _write_tables(folder: Path, sweep: Sweep, ended: Mapping[int, FrozenTrial]) -> None:
    for name, rows in (("trials.csv", run_rows(sweep, ended)), ("summary.csv", summary_rows(sweep, ended))):
        if rows:
            write_rows(folder / name, rows)


def _headline(sweep: Sweep, ended: Mapping[int, FrozenTrial]) -> str:
    values = [trial.value for trial in ended.values() if trial.value is not None]
    best = f", best {max(values):.2f} %" if values else ""
    return f"{sweep.name}: {len(ended)} of {sweep.slots}{best}"


def _say_trial(terminal: Terminal, sweep: Sweep, slot: int, trial: FrozenTrial) -> None:
    for row in run_rows(sweep, {slot: trial}):
        values = ", ".join(f"{path} = {row[path]}" for path in sweep.vary)
        accuracy = [value for column, value in row.items() if column.startswith("accuracy[")]
        outcome = accuracies(accuracy) if accuracy else f"{row['state']}: {trial.user_attrs['error']}"
        terminal.say(f"trial {row['trial']:04d}   {values}   {outcome}")
