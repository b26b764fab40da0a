"""Run folders: what is written can be read, and damage is told by its message."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.run import Run
from locallearn.quant.errors import RunError
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import load_spec

SPEC = load_spec("digits")


def weights() -> list:
    return [plan.initial_weights() for plan in NetworkPlan(SPEC).layers]


def confusion() -> list:
    return [np.arange(100).reshape(10, 10) + layer for layer in range(2)]


def test_round_trip(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "new" / "run")
    run.save_spec(SPEC)
    run.save_weights(weights())
    run.save_confusion(confusion())
    run.add_metrics({"epoch": 1})
    run.add_metrics({"epoch": 2})
    run.save_report({"seed": 1})
    run.save_report({"seed": 2})
    again = Run(run.path)
    assert again.spec == SPEC
    assert again.report == {"seed": 2}
    for expected, actual in zip(weights(), again.weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)
    np.testing.assert_array_equal(again.confusion(), confusion(), strict=True)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1}, {"epoch": 2}]
    files = ["confusion.npz", "metrics.jsonl", "report.json", "spec.toml", "weights.npz"]
    assert sorted(p.name for p in run.path.iterdir()) == files


def test_never_overwrites_another_run(tmp_path: Path) -> None:
    Run.create(tmp_path).save_spec(SPEC)
    with pytest.raises(RunError, match=r"not empty; name a new folder with --out"):
        Run.create(tmp_path)


def test_runs_of_the_same_second(tmp_path: Path) -> None:
    paths = [Run.create_under(tmp_path / "runs", "digits").path for _ in range(20)]
    assert len(set(paths)) == 20
    assert all(path.name.startswith("digits-2") and path.is_dir() for path in paths)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run: cannot be written: Not a directory"):
        Run.create(tmp_path / "file" / "run")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"spec.toml: cannot be read: No such file.*a run folder is what train --out"):
        _ = Run(tmp_path / "none").spec


def test_damaged_files(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.save_spec(SPEC)
    run.save_weights(weights())
    whole = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"weights.npz: cannot be read"):
        run.weights()
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(RunError, match=r"report.json: not JSON"):
        _ = run.report


def test_weights_of_another_network(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.save_spec(replace(SPEC, layers=SPEC.layers[:1]))
    run.save_weights([np.zeros((3, 65), np.int32)])
    with pytest.raises(RunError, match=r"layer_0 has shape \(3, 65\), \(\d+, 65\) is needed"):
        run.weights()


def test_confusion_before_an_epoch_is_finished(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.save_spec(SPEC)
    with pytest.raises(RunError, match=r"confusion.npz: cannot be read: No such file"):
        run.confusion()


def test_confusion_of_another_network(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.save_spec(replace(SPEC, classes=11))
    run.save_confusion(confusion())
    with pytest.raises(RunError, match=r"confusion.npz: layer_0 has shape \(10, 10\), \(11, 11\) is needed"):
        run.confusion()


def test_failed_write_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path)
    run.save_spec(SPEC)
    run.save_weights(weights())
    whole = (tmp_path / "weights.npz").read_bytes()

    def full(path: Path, **arrays: object) -> None:
        path.write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RunError, match=r"weights.npz: cannot be written: No space left"):
        run.save_weights(weights())
    assert (tmp_path / "weights.npz").read_bytes() == whole
    assert not list(tmp_path.glob(".*"))


def test_no_folder_for_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match=r"runs/digits-.*: cannot be written: Not a directory"):
        Run.create_under(tmp_path / "runs", "digits")
