"""build, program and boards as their users meet them."""

import json
import os
import signal
from pathlib import Path

import pytest

from locallearn.fpga.boards import BOARDS
from locallearn.fpga.stages import BuildFolder, Done, Stage
from locallearn.host.cli import main
from tests.fpga.stand_ins import StandIns

TINY = 'name = "tiny"\nclasses = 3\ninput = { size = 8 }\nlayers = [{ neurons = 4, lanes = 2 }]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with tiny.toml."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([*arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    return code, line


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, script: str) -> None:
    """A program on the PATH, and nothing else."""
    program = folder / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


# -- what works ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_build(capsys: pytest.CaptureFixture[str], tools: StandIns) -> None:
    tools.set(wanted=50, achieved=81.5)
    arguments = ["build", "tiny.toml", "--board", "ulx3s-25f", "--clock", "50", "--seed", "4", "--json"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for stage in ("elaboration", "synthesis", "place and route", "bitstream"):
        assert f"{stage:16}" in out
    assert "tiny on Radiona ULX3S, 25F at 50 MHz, of 81.50 MHz possible; top.bit and report.json in builds/" in out
    report = json.loads(out.splitlines()[-1])
    assert report == json.loads(Path("builds/tiny-ulx3s-25f/report.json").read_text())
    assert (report["fclk[mhz]"], report["seed"]) == (50, 4)
    speed = report["expected"]
    assert speed["throughput[samples/s]"]["train"] == pytest.approx(
        50e6 / speed["cycles_per_sample"]["train"], rel=1e-2
    )
    assert f"{speed['throughput[samples/s]']['train']:,} a second learned from on the chip" in out
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("as before") == 4


def test_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "report.json").write_text(json.dumps({"board": "tang-nano-9k", "bitstream": "top.fs"}))
    (here / "top.fs").touch()
    install(monkeypatch, here, "openFPGALoader", 'echo "openFPGALoader v1.1.1"')
    assert main(["program", "--board", "tang-nano-9k", str(here), "--json"]) == 0
    said, summary = capsys.readouterr().out.splitlines()
    assert said == (
        f"Sipeed Tang Nano 9K has {here}/top.fs; train it with "
        f"`locallearn train {here}/spec.toml --device /dev/ttyUSB0 --baud 3000000`, or whatever its port is called"
    )
    assert json.loads(summary) == {"board": "tang-nano-9k", "bitstream": f"{here}/top.fs"}


def test_boards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "--json"]) == 0
    out = capsys.readouterr().out
    boards = json.loads(out.splitlines()[-1])
    assert set(boards) == set(BOARDS)
    assert boards["icebreaker"]["capacity"] == {"lut": 5280, "ff": 5280, "dsp": 8, "block_ram": 30, "spram": 4}
    assert boards["icebreaker"]["link[baud]"] == BOARDS["icebreaker"].baud
    for board in BOARDS.values():
        assert board.name in out and board.part in out


@pytest.mark.parametrize("command", ["build", "program", "boards"])
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: locallearn {command}" in capsys.readouterr().out


# -- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("build", "digits"), ("program", ".")])
def test_unknown_board(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    code, line = fail(capsys, *command, "--board", "icebraker")
    assert (code, line) == (9, "locallearn: icebraker: no such board; there is icebreaker")


@pytest.mark.usefixtures("here")
def test_a_missed_clock(capsys: pytest.CaptureFixture[str], tools: StandIns) -> None:
    tools.set(wanted=100, achieved=60)
    code, line = fail(capsys, "build", "tiny.toml", "--board", "ulx3s-85f")
    assert code == 9
    assert "misses its clock: clk reaches 60.00 MHz, 100.00 MHz were wanted" in line


@pytest.mark.usefixtures("here")
def test_a_clock_that_the_board_cannot_make(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "build", "tiny.toml", "--board", "ulx3s-85f", "--clock", "0.5")
    assert code == 9
    assert "a clock of 0.5 MHz: the board makes" in line


@pytest.mark.usefixtures("here")
def test_interrupted(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tools: StandIns,
) -> None:
    """By Ctrl-C or by SIGTERM: what was done is not done again."""
    real = BuildFolder.run
    signals = iter((signal.SIGINT, signal.SIGTERM))

    def interrupting(folder: BuildFolder, stage: Stage) -> Done:
        if stage.name == "place and route" and (number := next(signals, None)):
            os.kill(os.getpid(), number)
        return real(folder, stage)

    monkeypatch.setattr(BuildFolder, "run", interrupting)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ("build", "tiny.toml", "--board", "ulx3s-25f", "--clock", "25", "--out", "out")
    for _ in range(2):
        code, line = fail(capsys, *arguments)
        assert code == 130
        assert line == "locallearn: interrupted; what is done is in out, the same command goes on"
        assert signal.getsignal(signal.SIGTERM) == before
    assert main([*arguments]) == 0
    assert capsys.readouterr().out.count("as before") == 2


def test_no_board_is_connected(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "report.json").write_text(json.dumps({"board": "ulx3s-85f", "bitstream": "top.bit"}))
    (here / "top.bit").touch()
    script = (
        'if [ "$1" = -V ]; then echo "openFPGALoader v0.10.0"; exit; fi\n'
        'echo "unable to open ftdi device: -3 (device not found)" >&2; exit 1'
    )
    install(monkeypatch, here, "openFPGALoader", script)
    code, line = fail(capsys, "program", "--board", "ulx3s-85f", str(here))
    assert code == 6
    assert line == ("locallearn: ulx3s-85f is not connected (USB): unable to open ftdi device: -3 (device not found)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build",), "the following arguments are required: --board"),
        (("build", "--board", "x", "--clock", "fast"), "argument --clock: fast: needed is a number of MHz above 0"),
        (("build", "--board", "x", "--clock", "-1"), "argument --clock: -1: needed is a number of MHz above 0"),
        (("build", "--board", "x", "--clock", "inf"), "argument --clock: inf: needed is a number of MHz above 0"),
        (("build", "--board", "x", "--seed", "0"), "argument --seed: 0: must be at least 1"),
        (("program", "--board", "x"), "the following arguments are required: DIR"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
