"""Sweeps: every point once, whatever dies in between; tables that NumPy agrees with."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from locallearn.host.cli import main
from locallearn.host.run import Run
from locallearn.host.sweep_spec import load_sweep
from locallearn.host.sweep_store import SweepStore, local_storage

# Trials of a second on the NumPy model, so that there is a middle to be killed in.
GRID = """
spec = "digits"
device = "numpy"
validation = 200
epochs = 6
limit = 400
[set]
"layers.*.neurons" = 12
"layers.*.lanes" = 4
[vary]
"weight" = [{bits = 8, fraction = 7}, {bits = 12, fraction = 11}]
"training.seed" = [1, 2, 3]
"""
SEARCH = GRID.replace('device = "numpy"', 'device = "model"').replace("[1, 2, 3]", "[1, 2]")


def write(folder: Path, text: str = GRID) -> Path:
    file = folder / "bits.toml"
    file.write_text(text)
    return file


def sweep(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = main(["sweep", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def begin(*arguments: object) -> subprocess.Popen[str]:
    """The command as a process group of its own, as a shell starts it."""
    command = [sys.executable, "-c", "import sys; from locallearn.host.cli import main; sys.exit(main())", "sweep"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def rows(folder: Path, name: str = "trials.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def attempts(folder: Path) -> list[optuna.trial.FrozenTrial]:
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{folder / 'storage.db'}")
    return optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{folder / 'storage.db'}").trials


def under_way(folder: Path) -> list[Path]:
    """Folders of trials that have begun."""
    return [path for path in folder.glob("trials/.*") if (path / "spec.toml").exists()]


def let_a_minute_pass(folder: Path) -> None:
    """For the heartbeats."""
    with sqlite3.connect(folder / "storage.db") as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 minute')")


def assert_equal(folder: Path, reference: Path) -> None:
    """Everything but the speed, to the last weight; nothing of killed trials is left."""
    speed = "throughput[samples/s]"
    found, expected = ([{k: v for k, v in row.items() if k != speed} for row in rows(f)] for f in (folder, reference))
    assert found == expected
    assert (folder / "summary.csv").read_bytes() == (reference / "summary.csv").read_bytes()
    names = sorted(path.name for path in (reference / "trials").iterdir())
    assert sorted(path.name for path in (folder / "trials").iterdir()) == names
    for name in names:
        for a, b in zip(*(Run(f / "trials" / name).weights() for f in (folder, reference)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid without any interruption, by two workers."""
    folder = tmp_path_factory.mktemp("reference")
    assert main(["sweep", str(write(folder)), "--out", str(folder / "out"), "--jobs", "2"]) == 0
    return folder / "out"


def test_grid_is_complete_and_every_point_ran_once(reference: Path) -> None:
    table = rows(reference)
    points = [(json.loads(row["weight"])["bits"], int(row["training.seed"])) for row in table]
    assert points == [(bits, seed) for bits in (8, 12) for seed in (1, 2, 3)]
    assert [row["state"] for row in table] == ["complete"] * 6
    assert len(attempts(reference)) == 6
    for number, row in enumerate(table):
        assert (row["trial"], row["folder"]) == (str(number), f"trials/{number:04d}")
        run = Run(reference / row["folder"])
        assert (run.spec.weight.bits, run.spec.training.seed) == points[number]
        assert [float(row[f"accuracy[{i}][%]"]) for i in (0, 1)] == run.report["test_accuracy[%]"]
        assert run.report["held_out"] == "last 200 training samples"
        assert run.report["out"] == str(run.path)
        assert row["epochs"] == "6"
        assert row["multipliers"] == "8"
        assert int(row["weight_memory[bits]"]) == points[number][0] * (12 * 65 + 12 * 13)


def test_summary_is_mean_and_sample_deviation(reference: Path) -> None:
    table = rows(reference)
    for row in rows(reference, "summary.csv"):
        assert row["seeds"] == "3"
        for layer in (0, 1):
            values = [float(r[f"accuracy[{layer}][%]"]) for r in table if r["weight"] == row["weight"]]
            assert len(values) == 3
            assert float(row[f"mean[{layer}][%]"]) == pytest.approx(np.mean(values), abs=1e-4)
            assert float(row[f"deviation[{layer}][%]"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)


def test_goes_on_after_everything_was_killed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path
) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    process = begin(file, "--out", out, "--jobs", 2)
    until(lambda: (out / "trials" / "0001").exists() and under_way(out))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in out.glob("trials/[0-9]*/report.json")}
    assert 0 < len(done) < 6
    assert under_way(out)
    let_a_minute_pass(out)
    assert sweep(capsys, file, "--out", out, "--jobs", 2)["ended"] == 6
    assert_equal(out, reference)
    states = [trial.state.name for trial in attempts(out)]
    assert states.count("COMPLETE") == 6
    # Runs that had come to their end in the storage, too, were not made again; one a worker may have missed that.
    again = [path for path, changed in done.items() if path.stat().st_mtime_ns != changed]
    assert len(again) <= states.count("FAIL") <= 2


def test_a_killed_worker_is_replaced(tmp_path: Path, reference: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    process = begin(file, "--out", out, "--jobs", 1)
    until(lambda: under_way(out))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (worker,) = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(worker), signal.SIGKILL)
    let_a_minute_pass(out)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert_equal(out, reference)
    assert [trial.state.name for trial in attempts(out)].count("FAIL") == 1


def test_a_trial_that_was_taken_for_dead_goes_to_waste(tmp_path: Path) -> None:
    text = GRID.replace("limit = 400", "limit = 1200").replace("[1, 2, 3]", "[1]")
    file, out = write(tmp_path, text), tmp_path / "out"
    process = begin(file, "--out", out, "--jobs", 1)
    until(lambda: under_way(out))

    def taken_for_dead() -> bool:
        let_a_minute_pass(out)
        return any(trial.state == optuna.trial.TrialState.FAIL for trial in attempts(out))

    until(taken_for_dead)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert [row["state"] for row in rows(out)] == ["complete"] * 2
    assert len(list((out / "trials").iterdir())) == 2


def test_workers_that_only_die_end_the_sweep(tmp_path: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    process = begin(file, "--out", out, "--jobs", 1)
    killed = set()

    def kill() -> bool:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for pid in children.read_text().split() if children.exists() else []:
            line = Path(f"/proc/{pid}/cmdline")
            if pid not in killed and line.exists() and b"spawn_main" in line.read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                killed.add(pid)
        return process.poll() is not None

    until(kill)
    assert process.returncode == 7
    assert process.stdout is not None
    assert "3 workers died one after the other, the last with exit code -9; " in process.stdout.read()


def test_interrupted_and_gone_on_with(capsys: pytest.CaptureFixture[str], tmp_path: Path, reference: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    process = begin(file, "--out", out, "--jobs", 2)
    # Most of the sweep is still to come: on a machine that is busy, it goes on before the signal arrives.
    until(lambda: (out / "trials" / "0000").exists() and under_way(out))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "locallearn: interrupted; " in output.splitlines()[-1]
    assert "Traceback" not in output
    assert 0 < len(rows(out)) < 6
    assert not under_way(out)
    # Workers that could tell that they stop need no heartbeat to be missed.
    assert not [trial for trial in attempts(out) if trial.state == optuna.trial.TrialState.RUNNING]
    assert sweep(capsys, file, "--out", out)["ended"] == 6
    assert_equal(out, reference)


def test_orphaned_workers_stop(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = begin(write(tmp_path), "--out", out, "--jobs", 2)
    until(lambda: under_way(out))
    process.kill()
    # They share its output: its end means that they are gone.
    process.communicate(timeout=60)
    assert len(list(out.glob("trials/[0-9]*"))) < 6


def test_two_machines_share_a_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'storage.db'}"
    outs = [tmp_path / name for name in ("a", "b")]
    processes = [begin(write(tmp_path), "--out", out, "--jobs", 1, "--storage", url) for out in outs]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert (outs[0] / "trials.csv").read_bytes() == (outs[1] / "trials.csv").read_bytes()
    assert sorted(path.name for out in outs for path in (out / "trials").iterdir()) == [f"{i:04d}" for i in range(6)]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_sqlite_gives_no_trial_to_two(tmp_path: Path) -> None:
    spec = load_sweep(write(tmp_path, SEARCH.replace("[1, 2]", str(list(range(20))))))
    stores = [SweepStore(local_storage(tmp_path), spec) for _ in range(4)]
    stores[0].begin()

    def take_all(store: SweepStore) -> list[int | None]:
        slots = []
        while store.waiting():
            slots.append(store.study.ask().user_attrs.get("slot"))
        return slots

    with ThreadPoolExecutor(4) as threads:
        slots = [slot for taken in threads.map(take_all, stores) for slot in taken if slot is not None]
    assert sorted(slots) == list(range(40))


def test_failed_trials_are_told_and_tried_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, out = write(tmp_path), tmp_path / "out"
    (out / "trials").mkdir(parents=True)
    (out / "trials" / ".0001-1").write_text("in the way")
    assert main(["sweep", str(file), "--out", str(out)]) == 7
    stdout, err = capsys.readouterr()
    message = f"{out / 'trials' / '.0001-1'}: cannot be written: File exists"
    assert f"failed: {message}" in stdout
    assert err.strip() == (
        f"locallearn: 1 of 6 trials failed, the same command tries them again; trial 0001: {message}"
    )
    assert [row["state"] for row in rows(out)] == ["complete", "failed", *["complete"] * 4]
    assert [row["seeds"] for row in rows(out, "summary.csv")] == ["2", "3"]
    (out / "trials" / ".0001-1").unlink()
    assert sweep(capsys, file, "--out", out)["failed"] == {}
    assert [row["state"] for row in rows(out)] == ["complete"] * 6


def test_tpe_maximises_the_mean_over_the_seeds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = 'search = "tpe"\ntrials = 5\nobjective = 1\n' + SEARCH
    summary = sweep(capsys, write(tmp_path, text), "--out", tmp_path / "out", "--jobs", 1)
    assert (summary["trials"], summary["ended"]) == (5, 5)
    table = rows(tmp_path / "out")
    assert [row["training.seed"] for row in table] == ["1", "2"] * 5
    # There are two configurations only: what was there before is not run again.
    states = [row["state"] for row in table]
    assert states.count("complete") == 2 * len(summary["summary"]) <= 4
    assert states.count("repeated") == 10 - states.count("complete")
    for number, trial in enumerate(attempts(tmp_path / "out")):
        values = [float(row["accuracy[1][%]"]) for row in table[2 * number : 2 * number + 2]]
        assert trial.value == pytest.approx(np.mean(values))
    means = [row["mean[1][%]"] for row in summary["summary"]]
    assert means == sorted(means, reverse=True)


def test_tpe_passes_over_what_is_impossible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = 'search = "tpe"\ntrials = 6\n' + SEARCH.replace("{bits = 12, fraction = 11}", "{bits = 17, fraction = 11}")
    assert sweep(capsys, write(tmp_path, text), "--out", tmp_path / "out", "--jobs", 1)["failed"] == {}
    for row in rows(tmp_path / "out"):
        assert (row["state"] == "impossible") == ("17" in row["weight"])


def test_random_picks_the_same_different_configurations(tmp_path: Path) -> None:
    file = write(tmp_path, 'search = "random"\ntrials = 4\n' + SEARCH + '"layers.0.rate_shift" = [5, 6, 7]\n')
    points = load_sweep(file).points
    assert points == load_sweep(file).points
    assert [point["training.seed"] for point in points] == [1, 2] * 4
    assert len({(point["weight"]["bits"], point["layers.0.rate_shift"]) for point in points}) == 4


def test_another_sweep_does_not_go_into_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(_small_network())
    text = 'spec = "net.toml"\ndata = "digits"\nlimit = 10\nepochs = 1\n[vary]\n"training.seed" = [1]\n'
    out = tmp_path / "out"
    sweep(capsys, write(tmp_path, text), "--out", out)
    # A comment changes nothing.
    assert sweep(capsys, write(tmp_path, text + "# thought about it\n"), "--out", out)["ended"] == 1
    assert main(["sweep", str(write(tmp_path, text.replace("[1]", "[1, 2]"))), "--out", str(out)]) == 7
    assert "holds another sweep than" in (err := capsys.readouterr().err)
    assert "name a new folder with --out" in err
    (tmp_path / "net.toml").write_text(_small_network().replace("neurons = 12", "neurons = 13"))
    assert main(["sweep", str(write(tmp_path, text)), "--out", str(out)]) == 7
    assert "the sweep bits was begun with another description or network: name a new folder with --out" in (
        capsys.readouterr().err
    )


def _small_network() -> str:
    return 'name = "net"\nclasses = 10\n[input]\nsize = 64\n[[layers]]\nneurons = 12\nlanes = 4\n'


VARY = '[vary]\n"training.seed" = [1]\n'


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("spec = ", 3, "bits.toml: not TOML: "),
        (VARY, 3, "bits.toml: spec is missing: a preset or a .toml file"),
        ('spec = "digits"\nepoch = 3\n' + VARY, 3, "unknown key epoch, did you mean epochs?"),
        ('spec = "digits"\nfoo = 3\n' + VARY, 3, "unknown key foo; known are data, device, epochs, "),
        ('spec = "digit"\n' + VARY, 3, "digit: neither a preset (cifar10-conv, "),
        ('spec = "digits"\n', 3, "[vary] is missing: lists of values by path"),
        ('spec = "digits"\nvary = 3\n', 3, "vary = 3: must be a table, [vary]"),
        ('spec = "digits"\nlimit = 0\n' + VARY, 3, "limit = 0: must be a whole number, at least 1"),
        ('spec = "digits"\nepochs = true\n' + VARY, 3, "epochs = True: must be a whole number, at least 1"),
        ('spec = "digits"\nname = "a/b"\n' + VARY, 3, "name = 'a/b': must be usable as a folder's name"),
        ('spec = "digits"\ndevice = 1\n' + VARY, 3, "device = 1: must be a text"),
        ('spec = "digits"\nsearch = "gird"\n' + VARY, 3, "search = 'gird': must be one of grid, random, tpe"),
        ('spec = "digits"\ntrials = 3\n' + VARY, 3, "trials = 3: a grid runs every combination"),
        ('spec = "digits"\nsearch = "tpe"\n' + VARY, 3, 'trials is missing: search = "tpe" needs how many'),
        (
            'spec = "digits"\nsearch = "random"\ntrials = 2\n' + VARY,
            3,
            "trials = 2: there are only 1 combinations, grid runs them all",
        ),
        ('spec = "digits"\nobjective = "first"\n' + VARY, 3, 'objective = \'first\': must be "best", "last" or a'),
        ('spec = "digits"\nobjective = 2\n' + VARY, 3, "training.seed = 1: objective = 2: layers are 0 to 1"),
        (
            'spec = "digits"\n[vary]\ntraining.seed = [1]\n',
            3,
            "vary.training: must be a list of values with its path in",
        ),
        (
            'spec = "digits"\n[vary]\n"noise_bits" = []\n',
            3,
            "vary.noise_bits: must be a list of values with its path in",
        ),
        ('spec = "digits"\n[vary]\n"noise_bits" = [8, 9, 8]\n', 3, "vary.noise_bits: 8 stands there twice"),
        ('spec = "digits"\n[vary]\n"name" = [1979-05-27]\n', 3, "vary.name: 1979-05-27 is no value of a description"),
        ('spec = "digits"\n[set]\ntraining.decay = [0]\n' + VARY, 3, "set.training: a path must stand in quotes"),
        ('spec = "digits"\n[set]\n"noise_bits" = 99\n' + VARY, 3, "bits.toml: set: noise_bits = 99: "),
        ('spec = "digits"\n[set]\n"training.seed" = 1\n' + VARY, 3, "training.seed stands in [set] and in [vary]"),
        (
            'spec = "digits"\n[vary]\n"weight.bits" = [12, 4]\n"layers.0.lanes" = [16, 200]\n',
            3,
            "weight.bits = 12, layers.0.lanes = 200: layers[0].lanes = 200",
        ),
        (
            'spec = "digits"\n[vary]\n"weihgt.bits" = [12]\n',
            3,
            "weihgt.bits = 12: unknown key weihgt, did you mean weight?",
        ),
        (
            'spec = "digits"\nsearch = "tpe"\ntrials = 9\n[vary]\n"weihgt.bits" = [12]\n',
            3,
            "unknown key weihgt, did you",
        ),
        ('spec = "digits"\ndata = "digit"\n' + VARY, 4, "did you mean digits?"),
        ('spec = "digits"\nvalidation = 5000\n' + VARY, 4, "digits has 1438 training samples, 5000 cannot be held out"),
        (
            'spec = "digits"\n[vary]\n"input.size" = [64, 65]\n',
            4,
            "digits has images of 64 (8x8), the network takes 65",
        ),
        ('spec = "digits"\n[vary]\n"training.augment.shift" = [9]\n', 4, "training.augment.shift = 9: at most 8"),
    ],
)
def test_impossible_files_are_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, code: int, message: str
) -> None:
    assert main(["sweep", str(write(tmp_path, text)), "--out", str(tmp_path / "out")]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("elsewhere", 7, "--storage elsewhere: needed is a URL such as postgresql://user@host/database"),
        ("sqlite:////nowhere/storage.db", 7, "--storage sqlite:////nowhere/storage.db: cannot be used: "),
        ("redis://localhost", 7, "--storage redis://localhost: cannot be used: "),
        ("postgresql+pg8000://me:secret@host/db", 5, "--storage postgresql+pg8000://me:***@host/db: No module named "),
    ],
)
def test_storages_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("locallearn.host.sweep_store._RETRY", 0)
    assert main(["sweep", str(write(tmp_path)), "--out", str(tmp_path / "out"), "--storage", url]) == code
    assert message in capsys.readouterr().err


def test_without_optuna_its_extra_is_named(tmp_path: Path) -> None:
    code = """
import sys
from locallearn.host.cli import main

class Missing:
    @staticmethod
    def find_spec(name, *rest):
        if name == "optuna":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing)
sys.exit(main())
"""
    command = [sys.executable, "-c", code, "sweep", str(write(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stderr == "locallearn: sweep needs Optuna: pip install 'locallearn[sweep]'\n"
