"""A sweep's trials in Optuna's storage, from which every process on every machine takes its next one.

A trial of the sweep is a slot, 0 to `slots` - 1. Optuna's trials are the attempts at it, queued before the first
one begins, so that popping from that queue alone shares out the work: an attempt whose process died is failed by
Optuna's heartbeat, and its slot is queued again.
"""

import json
import time
import warnings
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from locallearn.host.sweep_spec import SEED, Sweep
from locallearn.quant.errors import RunError, ToolError

__all__ = ["SweepStore", "local_storage"]

_HEARTBEAT = 2
"""Seconds between two signs of life of a running trial."""

_GRACE = 10
"""Seconds without one until it is taken for dead. One that is not, such as on a machine that slept, does no harm:
its slot is run twice, with the same result."""

_RETRY = 1
"""Seconds until a storage that failed to open is tried again."""

_COMPLETE, _UNDER_WAY, _FAILED, _DEAD = range(4)
"""How an attempt stands, best first; the dead are those that were killed or interrupted, or second to another."""


def local_storage(folder: Path) -> str:
    """The storage of a sweep that no other machine shares: a file in its folder."""
    return f"sqlite:///{folder.resolve() / 'storage.db'}"


class SweepStore:
    """The sweep's study in the storage at `url`, made where there is none.

    Raises RunError where the storage cannot be reached, ToolError where its driver is not installed.
    """

    def __init__(self, url: str, sweep: Sweep) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sweep = sweep
        # A value is a choice of Optuna's, which takes texts and numbers, but no lists or tables.
        self.choices = {
            path: [json.dumps(choice) for choice in choices]
            for path, choices in sweep.vary.items()
            if sweep.search != "tpe" or path != SEED
        }
        self._storage = _connected(url)
        sampler = optuna.samplers.TPESampler() if sweep.search == "tpe" else optuna.samplers.RandomSampler()
        self.study = optuna.create_study(
            storage=self._storage, study_name=sweep.name, sampler=sampler, direction="maximize", load_if_exists=True
        )
        self._seen: set[int] = set()

    def begin(self) -> dict[int, FrozenTrial]:
        """Queue what is left, and what failed once more; returns what is over, as `tend` does.

        Raises RunError where the storage holds a sweep of this name that tries something else.
        """
        begun = self.study.user_attrs.get("sweep")
        if begun is None:
            self.study.set_user_attr("sweep", self._sweep.identity)
        elif begun != self._sweep.identity:
            raise RunError(
                f"the sweep {self._sweep.name} was begun with another description or network: "
                "name a new folder with --out, or give it another name where --storage is shared"
            )
        standing = self._standing()
        self._queue({slot for slot, trial in standing.items() if _rank(trial) < _FAILED})
        return self._ended(self._standing())

    def tend(self) -> dict[int, FrozenTrial]:
        """Queue the slots again whose processes have died, on whatever machine.

        Returns the attempt that counts for every slot that is over: it completed, or ended with an `error`.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            fail_stale_trials(self.study)
        standing = self._standing()
        for trial in standing.values():
            if trial.state == TrialState.RUNNING and trial._trial_id not in self._seen:
                # Optuna would never miss an attempt that died before its first heartbeat, so it gets one.
                self._seen.add(trial._trial_id)
                self._storage.record_heartbeat(trial._trial_id)
        self._queue({slot for slot, trial in standing.items() if _rank(trial) < _DEAD})
        return self._ended(standing)

    def waiting(self) -> bool:
        """Whether a slot is queued."""
        return bool(self._attempts(TrialState.WAITING))

    def is_first(self, trial: optuna.Trial) -> bool:
        """Whether an attempt that has begun is the only one at its slot.

        Two are queued where two machines begin the same sweep at once; Optuna makes up one without a slot where
        two processes see the last of the queue. The earlier one counts.
        """
        slot = trial.user_attrs.get("slot")
        return slot is not None and not any(
            other.user_attrs.get("slot") == slot and other.number < trial.number
            for other in self._attempts(TrialState.RUNNING, TrialState.COMPLETE)
        )

    def same(self, trial: optuna.Trial) -> FrozenTrial | None:
        """A completed attempt with the same values."""
        return next((t for t in self._attempts(TrialState.COMPLETE) if t.params == trial.params), None)

    def _queue(self, busy: Container[int]) -> None:
        """Queue every slot but the busy ones."""
        for slot in range(self._sweep.slots):
            if slot not in busy:
                self.study.enqueue_trial(self._values(slot), {"slot": slot})

    def _ended(self, standing: Mapping[int, FrozenTrial]) -> dict[int, FrozenTrial]:
        return {slot: trial for slot, trial in sorted(standing.items()) if _rank(trial) in (_COMPLETE, _FAILED)}

    def _standing(self) -> dict[int, FrozenTrial]:
        """The attempt that says how each slot stands: the first of the best."""
        standing: dict[int, FrozenTrial] = {}
        for trial in self._attempts():
            slot = trial.user_attrs.get("slot")
            if slot is not None and (slot not in standing or _rank(trial) < _rank(standing[slot])):
                standing[slot] = trial
        return standing

    def _attempts(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _values(self, slot: int) -> dict[str, str]:
        """What a queued slot is fixed to; nothing where tpe chooses."""
        if self._sweep.search == "tpe":
            return {}
        return {path: json.dumps(value) for path, value in self._sweep.points[slot].items()}


def _rank(trial: FrozenTrial) -> int:
    if trial.state == TrialState.COMPLETE:
        return _COMPLETE
    if not trial.state.is_finished():
        return _UNDER_WAY
    return _FAILED if "error" in trial.user_attrs else _DEAD


def _connected(url: str) -> RDBStorage:
    """With tables, made where there are none."""
    try:
        shown = sqlalchemy.make_url(url)
    except ArgumentError:
        raise RunError(f"--storage {url}: needed is a URL such as postgresql://user@host/database") from None
    local = shown.get_backend_name() == "sqlite"
    for attempt in range(3):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = RDBStorage(
                    url,
                    # Many processes wait for each other's few writes.
                    engine_kwargs={"connect_args": {"timeout": 60}} if local else None,
                    heartbeat_interval=_HEARTBEAT,
                    grace_period=_GRACE,
                )
            break
        except ImportError as error:
            raise ToolError(
                f"--storage {shown}: {error.__cause__ or error}; install the database's driver, "
                "such as pip install 'psycopg[binary]' for postgresql"
            ) from None
        except (SQLAlchemyError, StorageInternalError) as error:
            # Two that begin at once make the same tables: the second finds them there next time.
            if attempt == 2:
                reason = str(error.__cause__ or error).splitlines()[0]
                raise RunError(f"--storage {shown}: cannot be used: {reason}") from None
            time.sleep(_RETRY)
    if local:
        _lock_whole_transactions(storage.engine)
    return storage


def _lock_whole_transactions(engine: sqlalchemy.Engine) -> None:
    """Let SQLite take its lock when a transaction begins.

    It has no SELECT FOR UPDATE, and takes the lock at the first write: two processes could both read that a trial
    is waiting, and both begin it.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        # A kill loses nothing then, a power cut the last moments: no commit waits for the disk.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections that were made without these
