"""`locallearn reference`: what a study runs, that it goes on where it was, and what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from locallearn.host.cli import main

ALL = [
    *("local", "local-signs", "local-sign-concordant", "local-random", "local-trainable", "local-hinge"),
    *("backprop", "feedback-alignment", "dfa", "drtp"),
]
SMALL = ["reference", "--layers", "12", "10", "--seeds", "2", "--epochs", "2", "--limit", "300", "--json"]


def reference(capsys: pytest.CaptureFixture[str], out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The summary, and the lines before it."""
    assert main([*SMALL, "--out", str(out), *options]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return json.loads(last), "\n".join(lines)


def runs(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


@pytest.mark.torch
def test_all_rules(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, text = reference(capsys, tmp_path)
    assert [row["rule"] for row in summary["rows"]] == ALL
    done = runs(tmp_path)
    assert [(run["rule"], run["seed"]) for run in done] == [(rule, seed) for rule in ALL for seed in (1, 2)]
    for row in summary["rows"]:
        accuracies = [run["test_accuracy[%]"] for run in done if run["rule"] == row["rule"]]
        assert len(row["mean_accuracy[%]"]) == (2 if row["rule"].startswith("local") else 1)
        for number, mean in enumerate(row["mean_accuracy[%]"]):
            first, second = (accuracy[number] for accuracy in accuracies)
            assert mean == pytest.approx((first + second) / 2, abs=0.001)
            assert row["deviation[%]"][number] == pytest.approx(abs(first - second) / 2**0.5, abs=0.001)
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [row["rule"]] and "±" in line]
            assert f"{mean:.2f} ± " in line


@pytest.mark.torch
def test_runs_are_made_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is there is not run again, and what comes later is what would have come at once."""
    rules = ("--rules", "local", "dfa")
    whole, _ = reference(capsys, tmp_path / "whole", *rules)
    parts = tmp_path / "parts"
    reference(capsys, parts, "--rules", "local")
    # As if it had been killed while the second was written down.
    (parts / "runs.jsonl").write_text((parts / "runs.jsonl").read_text()[:-20])
    assert reference(capsys, parts, *rules)[0] == whole
    assert [(run["rule"], run["seed"]) for run in runs(parts)] == [("local", 1), ("local", 2), ("dfa", 1), ("dfa", 2)]


@pytest.mark.torch
def test_one_seed_has_no_deviation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, text = reference(capsys, tmp_path, "--rules", "dfa", "--seeds", "1")
    (row,) = summary["rows"]
    assert row["deviation[%]"] is None
    assert text.splitlines()[-3].split() == ["dfa", "1", f"{row['mean_accuracy[%]'][0]:.2f}"]
    assert "±" not in text


@pytest.mark.torch
def test_no_room_for_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr("locallearn.host.references._read", lambda file: {})  # which would never end
    assert main([*SMALL, "--out", str(tmp_path), "--rules", "dfa"]) == 7
    expected = f"locallearn: {tmp_path / 'runs.jsonl'}: cannot be written: No space left on device\n"
    assert capsys.readouterr().err == expected


@pytest.mark.torch
def test_convolutions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, _ = reference(capsys, tmp_path, "--layers", "conv4", "conv6", "20", "--rules", "local", "backprop")
    assert [len(row["mean_accuracy[%]"]) for row in summary["rows"]] == [3, 1]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rules", "magic"], 3, "magic: no such rule; there is local, local-signs, "),
        (["--layers", "conv"], 3, "conv: no layer; 128 is a dense one, conv32 a convolution with 32 channels"),
        (["--layers", "8", "conv4"], 3, "convolutions must be the first layers: a dense layer leaves no rows and"),
        (["--layers", *["conv4"] * 4], 4, "digits has samples of 8 x 8: 4 times halved, nothing is left of their rows"),
        (["--validation", "9999"], 4, "digits has 1438 training samples, 9999 cannot be held out"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    assert main([*SMALL, "--out", str(tmp_path / "out"), *options]) == code
    assert capsys.readouterr().err.startswith(f"locallearn: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_another_study_in_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reference(capsys, tmp_path, "--rules", "local")
    for option, there, value in (("epochs", 2, 3), ("rate", 0.003, 0.01)):
        assert main([*SMALL, "--out", str(tmp_path), f"--{option}", str(value)]) == 7
        expected = f"locallearn: {tmp_path} has runs with {option} = {there}, not {value}: name another --out\n"
        assert capsys.readouterr().err == expected
    (tmp_path / "runs.jsonl").write_text("{\n")
    assert main([*SMALL, "--out", str(tmp_path)]) == 7
    assert capsys.readouterr().err == f"locallearn: {tmp_path / 'runs.jsonl'}: damaged: {{\n"


@pytest.mark.parametrize("rate", ["0", "-1", "much", "inf"])
def test_rates(capsys: pytest.CaptureFixture[str], rate: str) -> None:
    with pytest.raises(SystemExit):
        main(["reference", "--rate", rate])
    assert f"argument --rate: {rate}: needed is a number above 0" in capsys.readouterr().err


def test_without_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith(("locallearn.reference", "locallearn.host.ref"))]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["reference"]) == 5
    assert capsys.readouterr().err == "locallearn: reference needs PyTorch: pip install 'locallearn[torch]'\n"
