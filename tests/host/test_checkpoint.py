"""Checkpoints as files: nothing is lost on the way, damage is found, and a failed write costs the oldest one alone."""

import errno
import io
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.checkpoint import Checkpoint, Pass, newest_checkpoint, remove_checkpoints
from locallearn.host.datasets import load
from locallearn.host.device import Counters
from locallearn.host.run import Run
from locallearn.quant.errors import RunError
from locallearn.quant.network import LayerCounters
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from tests.host.test_state import assert_same_state

SPEC = NetworkSpec("two", 3, InputSpec(4), (LayerSpec(5, lanes=2), LayerSpec(3, lanes=3)))
LAYERS = [LayerCounters(events=7, saturated=1), LayerCounters(learned=2**40)]


def checkpoint(number: int, counters: Counters | None = None) -> Checkpoint:
    return Checkpoint(
        number,
        SPEC.to_toml(),
        123,
        "model",
        epochs=3,
        limit=None,
        origin={"data_source": "digits", "data_dir": None, "validation": 5, "init": None},
        given=False,
        initial_accuracy=[50.0, 60.5],
        epoch=1,
        under_way=Pass(9, [4, 5], counters, 0.5),
        state=replace(NetworkPlan(SPEC).initial_state(), noise=[2**64 - 1, 1]),
    )


@pytest.mark.parametrize("counters", [None, Counters(9, LAYERS), Counters(9, LAYERS, 2**45, 0, [1, 2], [3, 4], [5, 6])])
def test_round_trip(tmp_path: Path, counters: Counters | None) -> None:
    saved = checkpoint(3, counters)
    saved.save(tmp_path)
    found, damaged = newest_checkpoint(tmp_path)
    assert damaged == []
    assert_same_state("read", saved.state, found.state)
    assert found.state.arrays[0].dtype == np.int32
    assert replace(found, state=saved.state) == saved


def test_keeps_the_last_two(tmp_path: Path) -> None:
    for number in range(5):
        checkpoint(number).save(tmp_path)
        assert newest_checkpoint(tmp_path)[0].number == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-0", "checkpoint-1"]
    (tmp_path / "checkpoint-0").unlink()
    assert newest_checkpoint(tmp_path)[0].number == 3
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no checkpoint, a run that `train` began has one"):
        newest_checkpoint(tmp_path)


# -- damage --------------------------------------------------------------------------------------------------------


def test_damage_of_any_byte_is_found(tmp_path: Path) -> None:
    checkpoint(0).save(tmp_path)
    path = tmp_path / "checkpoint-0"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(RunError, match=r"checkpoint-0: damaged: its checksum is another one$"):
            newest_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 31, 32, 33, 500, -1])
def test_goes_on_from_the_one_before(tmp_path: Path, kept: int) -> None:
    for number in (6, 7):
        checkpoint(number).save(tmp_path)
    newest = tmp_path / "checkpoint-1"
    newest.write_bytes(newest.read_bytes()[:kept])
    found, damaged = newest_checkpoint(tmp_path)
    assert found.number == 6
    assert damaged == [f"{newest}: damaged: its checksum is another one"]
    # Both are named where neither is good.
    (tmp_path / "checkpoint-0").write_bytes(b"")
    with pytest.raises(RunError, match=r"checkpoint-0: damaged.*; .*checkpoint-1: damaged"):
        newest_checkpoint(tmp_path)


def test_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-0").mkdir()
    with pytest.raises(RunError, match=r"checkpoint-0: Is a directory$"):
        newest_checkpoint(tmp_path)


def test_of_another_version(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, record=np.frombuffer(b'{"number": 3}', np.uint8))
    (tmp_path / "checkpoint-1").write_bytes(sha256(file.getvalue()).digest() + file.getvalue())
    with pytest.raises(RunError, match=r"checkpoint-1: written by another version of locallearn$"):
        newest_checkpoint(tmp_path)


# -- writing fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_failed_write_keeps_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, reason: int
) -> None:
    for number in (6, 7):
        checkpoint(number).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    error = OSError(reason, "No room")
    written = Path.write_bytes

    def fail(path: Path, content: object) -> None:
        if isinstance(content, bytes) and reason == errno.ENOSPC:
            written(path, content[: len(content) // 2])
        raise error

    def refuse(path: Path, missing_ok: bool) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, step, fail)
        if reason != errno.ENOSPC:
            patched.setattr(Path, "unlink", refuse)
        with pytest.raises(RunError, match=r"checkpoint-0: cannot be written: No room$"):
            checkpoint(8).save(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert whole == before
    if reason == errno.ENOSPC:
        assert not list(tmp_path.glob(".*"))
    assert newest_checkpoint(tmp_path)[0].number == 7


# -- another run's -------------------------------------------------------------------------------------------------


def test_description_and_data_must_be_the_runs(tmp_path: Path) -> None:
    digits, run = load("digits"), Run.create(tmp_path)
    run.save_spec(SPEC)
    right = replace(checkpoint(0), data=digits.checksum)
    right.check(run, digits)
    other = digits.train_x.copy()
    other[5, 30] ^= 1
    for changed in (replace(digits, train_x=other), replace(digits, test_y=digits.test_y[:-1])):
        with pytest.raises(RunError, match=r"digits has other samples than those that the run began with"):
            right.check(run, changed)
    run.save_spec(replace(SPEC, noise_bits=5))
    with pytest.raises(RunError, match=r"spec.toml: not the description that the run began with"):
        right.check(run, digits)
