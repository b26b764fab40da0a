"""`locallearn estimate` as its users meet it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from locallearn.fpga.boards import BOARDS, find_board
from locallearn.fpga.estimate import estimate
from locallearn.host.cli import main
from locallearn.host.run import Run
from locallearn.quant.frames import LINE_BYTES
from locallearn.quant.spec import load_spec


def succeed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict]:
    assert main(["estimate", *arguments, "--json"]) == 0
    *shown, summary = capsys.readouterr().out.splitlines()
    return "\n".join(shown), json.loads(summary)


def test_on_a_board(capsys: pytest.CaptureFixture[str]) -> None:
    shown, summary = succeed(capsys, "mnist", "--board", "ulx3s-85f", "--clock", "80", "--set", "layers.1.lanes=8")
    for text in ("mnist, estimated; samples as MNIST", "layer 0", "layer 1", "chip", "there is", "expected, train"):
        assert text in shown
    assert summary["fits"] and summary["board"] == "ulx3s-85f"
    assert summary["fclk[mhz]"] == 80
    assert summary["resources"]["dsp"] == {"used": 72, "available": 156}
    assert [layer["dsp"] for layer in summary["estimate_layer_resources"]] == [64, 8]
    for speed in (summary["expected"], summary["dense"]):
        cycles = speed["cycles_per_sample"]
        assert len(speed["estimate_layer_cycles"]) == 2
        assert cycles["train"] == max(layer["train"] for layer in speed["estimate_layer_cycles"])
        for what in ("train", "infer"):
            assert speed["throughput[samples/s]"][what] == pytest.approx(80e6 / cycles[what], rel=1e-3)
    assert summary["expected"]["cycles_per_sample"]["train"] < summary["dense"]["cycles_per_sample"]["train"]
    # 10 bits a byte: the label's two and a byte a pixel.
    assert summary["dense"]["throughput[samples/s]"]["link"] == round(
        BOARDS["ulx3s-85f"].baud / 10 / (786 * LINE_BYTES)
    )


def test_on_all_boards(capsys: pytest.CaptureFixture[str]) -> None:
    shown, summary = succeed(capsys, "mnist")
    assert set(summary) == set(BOARDS)
    for name, figures in summary.items():
        assert name in shown
        assert figures == estimate(load_spec("mnist"), find_board(name)).figures()
    assert summary["ulx3s-85f"]["fits"] and not summary["icebreaker"]["fits"]


def test_the_longer_direction_of_the_link_counts() -> None:
    """Many small layers answer with more bytes than a sample has."""
    spec = load_spec("digits").replaced({"layers": [{"neurons": 2} for _ in range(32)], "input.size": 4})
    found = estimate(spec, BOARDS["ulx3s-85f"])
    assert found.expected.link == BOARDS["ulx3s-85f"].baud / 10 / (LINE_BYTES * (1 + 32 * 2))


def test_too_big(capsys: pytest.CaptureFixture[str]) -> None:
    """Shown all the same; then what would fit."""
    assert main(["estimate", "mnist", "--board", "icebreaker", "--json"]) == 9
    said = capsys.readouterr()
    assert not json.loads(said.out.splitlines()[-1])["fits"]
    (line,) = said.err.splitlines()
    assert line.startswith("locallearn: mnist does not fit icebreaker (iCE40UP5K-SG48): needed are ")
    assert "80 dsp (it has 8)" in line and "; this would fit: --set " in line


def test_nothing_is_built_that_is_too_big(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["build", "mnist", "--board", "tang-nano-9k", "--out", str(out)]) == 9
    assert "80 dsp (it has 20)" in capsys.readouterr().err
    assert not out.exists()


def test_activity_of_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    layers = [{"events": 200, "learned": 10, "words_written": 400}, {"events": 100, "learned": 0, "words_written": 0}]
    run.save_report({"counters": {"samples": 10, "layers": layers}})
    shown, summary = succeed(capsys, "digits", "--board", "ulx3s-85f", "--activity", str(run.path))
    assert f"samples as {run.path}" in shown
    activity = summary["expected"]["activity"]["layers"]
    assert [layer["events"] for layer in activity] == [20, 10]
    assert [layer["learned"] for layer in activity] == [1, 0]


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["estimate", "--activity", str(tmp_path)]) == 7
    assert str(tmp_path) in capsys.readouterr().err


def test_an_unknown_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--board", "icebraker"]) == 9
    assert capsys.readouterr().err == "locallearn: icebraker: no such board; there is icebreaker\n"


def test_neither_amaranth_nor_a_tool_is_needed() -> None:
    script = (
        "import sys; from locallearn.host.cli import main; "
        "main(['estimate', 'mnist', '--board', 'ulx3s-85f']); "
        "assert 'amaranth' not in sys.modules and 'locallearn.fpga.tools' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
