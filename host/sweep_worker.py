"""A process of a sweep: it trains one trial after the other until it is told to stop, or its parent is gone."""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from locallearn.host.augment import check as check_images
from locallearn.host.connect import connect
from locallearn.host.datasets import Dataset, check, load, validation
from locallearn.host.run import Run
from locallearn.host.stop import Stop
from locallearn.host.sweep_spec import Sweep
from locallearn.host.sweep_store import SweepStore
from locallearn.host.train import Display, train
from locallearn.quant.errors import LocalLearnError, SpecError
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["Work", "work"]


@dataclass(frozen=True)
class Work:
    """What every worker of a machine is told.

    source, data_dir  as for `datasets.load`
    folder            of the sweep on this machine
    storage           Optuna's URL
    """

    sweep: Sweep
    source: str
    data_dir: Path | None
    folder: Path
    storage: str

    def load_data(self) -> Dataset:
        """The data set, its validation part held out where the sweep says so."""
        data = load(self.source, self.data_dir)
        return data if self.sweep.validation is None else validation(data, self.sweep.validation)


def work(job: Work, leash: Connection) -> None:
    """Run trials in this process until the other end of `leash` is closed, by its owner or its owner's death."""
    # For when nobody listens any more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_stop_at_end, args=(leash,), daemon=True).start()
    stop = Stop()
    # One core a worker: the machine's others have workers of their own.
    with stop.listening(), threadpool_limits(1):
        objective = _Objective(job)
        while not stop():
            if not objective.store.waiting():
                time.sleep(0.2)
                continue
            try:
                objective.store.study.optimize(objective, n_trials=1, catch=(LocalLearnError,))
            except ValueError as error:
                # Another process took this trial for dead, and has it now.
                if not str(error).startswith("Cannot tell"):
                    raise
            except KeyboardInterrupt:
                return


def _stop_at_end(leash: Connection) -> None:
    leash.poll(None)
    # One is not enough: between two trials it ends `work`, but not the trial that has just begun.
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)


class _Objective:
    """From an Optuna trial to the objective's value, with all that the tables need as its attributes."""

    def __init__(self, job: Work) -> None:
        self.store = SweepStore(job.storage, job.sweep)
        self._job = job
        self._data = job.load_data()

    def __call__(self, trial: optuna.Trial) -> float:
        if not self.store.is_first(trial):
            raise optuna.TrialPruned
        values = {path: json.loads(trial.suggest_categorical(path, c)) for path, c in self.store.choices.items()}
        sweep = self._job.sweep
        if sweep.search == "tpe" and (same := self.store.same(trial)) is not None:
            # tpe returns to what is good, but every run of it would end the same.
            trial.set_user_attr("repeats", same.user_attrs["slot"])
            trial.set_user_attr("runs", same.user_attrs["runs"])
            assert same.value is not None
            return same.value
        try:
            specs = {number: sweep.spec_of(v) for number, v in sweep.runs(trial.user_attrs["slot"], values).items()}
            runs = [self._run(number, trial.number, spec) for number, spec in specs.items()]
        except SpecError as error:
            # Only tpe meets one here; as a pruned trial it tells the search what to avoid.
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from None
        except LocalLearnError as error:
            trial.set_user_attr("error", str(error))
            raise
        trial.set_user_attr("runs", runs)
        return sweep.score(np.mean([run["accuracy[%]"] for run in runs], axis=0).tolist())

    def _run(self, number: int, attempt: int, spec: NetworkSpec) -> dict[str, Any]:
        """Train in trials/NUMBER, which is there only once it is complete. Returns the table's figures."""
        job, data = self._job, self._data
        check(data, spec)
        check_images(data.shape, spec.training.augment)
        folder = job.folder / "trials" / f"{number:04d}"
        run = Run.create(folder.with_name(f".{folder.name}-{attempt}"))
        origin = {
            "data_source": job.source,
            "data_dir": job.data_dir and str(job.data_dir),
            "validation": job.sweep.validation,
        }
        try:
            with connect(spec, job.sweep.device) as device:
                epochs = job.sweep.epochs or spec.training.epochs
                report = train(device, data, run, epochs, job.sweep.limit, Display(), origin)
            if report["interrupted"]:
                raise KeyboardInterrupt
            run.save_report(report | {"out": str(folder)})
            shutil.rmtree(folder, ignore_errors=True)  # by a process that was taken for dead
            run.path.rename(folder)
        finally:
            shutil.rmtree(run.path, ignore_errors=True)
        plan = NetworkPlan(spec)
        return {
            "epochs": report["epochs"],
            "weight_memory[bits]": plan.weight_bits,
            "multipliers": sum(layer.lanes for layer in plan.layers),
            "accuracy[%]": report["test_accuracy[%]"],
            "throughput[samples/s]": report["throughput[samples/s]"],
            "folder": str(folder.relative_to(job.folder)),
        }
