"""What is done again and what is not, and what failures and interruptions leave behind."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from locallearn.fpga.stages import BuildFolder, Stage, tool_stage
from locallearn.fpga.tools import Tool
from locallearn.quant.errors import BuildError, LocalLearnError, ToolError
from tests.fpga.stand_ins import Diary


def shell(version: str = "1") -> Tool:
    return Tool("sh", ("sh", "-c"), version)


def upper(script: str = "tr a-z A-Z < in > mid", tool: Tool | None = None) -> Stage:
    return tool_stage("first step", tool or shell(), (script,), ("in",), ("mid",))


def double(script: str = "cat mid mid > out") -> Stage:
    return tool_stage("second step", shell(), (script,), ("mid",), ("out",))


def run(path: Path, *stages: Stage) -> list[str]:
    """Run them; returns the names of those that were really done."""
    diary = Diary()
    with BuildFolder(path, diary) as folder:
        for stage in stages:
            folder.run(stage)
    return diary.begun


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "in").write_text("abc")
    return folder


def unfinished(path: Path) -> bool:
    return (path / ".stages" / "unfinished").exists()


# -- what is done again --------------------------------------------------------------------------------------------


def test_everything_once(path: Path) -> None:
    assert run(path, upper(), double()) == ["first step", "second step"]
    assert (path / "out").read_text() == "ABCABC"
    assert run(path, upper(), double()) == []
    assert not unfinished(path)


def test_the_record_says_what_was_done(path: Path) -> None:
    with BuildFolder(path, Diary()) as folder:
        done = folder.run(upper("sleep 0.2; cp in mid"))
        assert 0.2 <= done.seconds < 30
        assert folder.run(upper("sleep 0.2; cp in mid")) == done


def test_another_input(path: Path) -> None:
    run(path, upper(), double())
    (path / "in").write_text("xyz")
    assert run(path, upper(), double()) == ["first step", "second step"]
    assert (path / "out").read_text() == "XYZXYZ"


def test_another_input_with_the_same_outcome(path: Path) -> None:
    run(path, upper(), double())
    (path / "in").write_text("Abc")
    assert run(path, upper(), double()) == ["first step"]


@pytest.mark.parametrize("stage", [upper("cat in in > mid"), upper(tool=shell("2"))])
def test_another_command_or_tool(path: Path, stage: Stage) -> None:
    run(path, upper())
    assert run(path, stage) == ["first step"]
    assert run(path, stage) == []


def test_an_output_that_is_gone_or_another(path: Path) -> None:
    run(path, upper(), double())
    (path / "out").unlink()
    assert run(path, upper(), double()) == ["second step"]
    (path / "mid").write_text("edited")
    assert run(path, upper(), double()) == ["first step"]


@pytest.mark.parametrize("record", ["", "{}", '{"key": "x"', "[]"])
def test_a_damaged_record(path: Path, record: str) -> None:
    run(path, upper())
    (path / ".stages" / "first-step.json").write_text(record)
    assert run(path, upper()) == ["first step"]


def test_a_stage_sees_its_inputs_only(path: Path) -> None:
    """A file that is not in the key must not be there."""
    run(path, upper())
    assert run(path, tool_stage("second step", shell(), ("ls > out",), ("mid",), ("out",))) == ["second step"]
    assert (path / "out").read_text().split() == ["mid", "out"]


# -- what is told --------------------------------------------------------------------------------------------------


def test_phases_and_elapsed_time(path: Path) -> None:
    def phase(line: str) -> str | None:
        return line.strip() if line.startswith("p") else None

    diary = Diary()
    stage = tool_stage("work", shell(), ("echo p1; echo x >&2; echo p2 >&2; touch out",), (), ("out",), phase)
    with BuildFolder(path, diary) as folder:
        folder.run(stage)
        folder.run(stage)
    assert diary.phases == ["work: p1", "work: p2"]
    assert [line.split() for line in diary.said] == [
        ["work", diary.said[0].split()[1], "s"],
        ["work", "as", "before"],
    ]
    assert (path / "work.log").read_text() == "p1\nx\np2\n"


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_tool_fails(path: Path) -> None:
    run(path, upper())
    with pytest.raises(ToolError) as failure:
        run(path, upper("touch mid; seq 100; echo out of luck >&2; exit 3"))
    message, *said = str(failure.value).splitlines()
    log = path / "first-step.log"
    assert message == f"sh failed (exit status 3, full log in {log}):"
    assert said == [*map(str, range(90, 101)), "out of luck"]
    assert log.read_text().startswith("1\n2\n")
    # What was there before still is, and is still known.
    assert (path / "mid").read_text() == "ABC"
    assert run(path, upper()) == []
    assert not unfinished(path)


def test_a_tool_makes_nothing(path: Path) -> None:
    with pytest.raises(ToolError, match=r"sh failed \(it made no mid, full log in .*first-step\.log\):\nnot today"):
        run(path, upper("echo not today"))


def test_a_tool_fails_for_a_reason_that_is_known(path: Path) -> None:
    def diagnose(log: str) -> LocalLearnError | None:
        return BuildError("too big") if "no room" in log else None

    def stage(script: str) -> Stage:
        return tool_stage("work", shell(), (script,), (), ("out",), diagnose=diagnose)

    with pytest.raises(BuildError, match=r"^too big$"):
        run(path, stage("echo no room; exit 1"))
    with pytest.raises(ToolError, match="sh failed"):
        run(path, stage("echo no time; exit 1"))


def test_a_tool_cannot_be_started(path: Path) -> None:
    with pytest.raises(ToolError, match=r"^/no/such/tool: cannot be started: No such file or directory$"):
        run(path, upper(tool=Tool("absent", ("/no/such/tool",), "1")))


def test_two_builds_at_once(path: Path) -> None:
    with (
        BuildFolder(path, Diary()),
        pytest.raises(BuildError, match=r"build: another build is at work here; name another folder with --out$"),
        BuildFolder(path, Diary()),
    ):
        pass
    assert run(path, upper()) == ["first step"]


def test_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"file/build: cannot be written: Not a directory$"):
        run(tmp_path / "file" / "build")


def test_a_file_is_in_the_way(path: Path) -> None:
    (path / "mid").mkdir()
    with pytest.raises(BuildError, match=r"cannot be written: Is a directory$"):
        run(path, upper())


# -- interruption --------------------------------------------------------------------------------------------------


def ended(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("stubborn", [False, True])
def test_interrupted_and_resumed(path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    """The tool ends with the build, even if it does not want to; what was done before it is not done again."""
    monkeypatch.setattr("locallearn.fpga.stages._SECONDS_TO_END", 0.5)
    pids = []

    def interrupt(line: str) -> str | None:
        pids.append(int(line))
        raise KeyboardInterrupt

    script = "trap '' INT; " * stubborn + "echo $$; touch out; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        run(path, upper(), tool_stage("second step", shell(), (script,), ("mid",), ("out",), interrupt))
    assert ended(pids[0])
    assert not unfinished(path)
    assert not (path / "out").exists()
    assert run(path, upper(), double()) == ["second step"]


def test_ctrl_c_in_the_terminal(path: Path) -> None:
    """SIGINT to the whole group: the tool gets it from the build alone, once, and has the time to tidy up."""
    notes = shlex.quote(str(path / "notes"))
    script = f"tidy() {{ echo tidy >> {notes}; exit 1; }}; trap tidy INT; echo ready; while :; do sleep 0.1; done"
    with builder(path, script) as process:
        assert process.stdout
        assert process.stdout.readline() == "work: ready\n"
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode != 0
    assert (path / "notes").read_text() == "tidy\n"


def test_killed_and_resumed(path: Path) -> None:
    with builder(path, "touch out; echo $$; exec sleep 60") as process:
        assert process.stdout
        tool = int(process.stdout.readline().removeprefix("work: "))
        process.kill()
    try:
        assert unfinished(path)
        assert not (path / "out").exists()
        assert run(path, upper(), double()) == ["first step", "second step"]
        assert not unfinished(path)
    finally:
        os.kill(tool, signal.SIGKILL)


def builder(path: Path, script: str) -> "subprocess.Popen[str]":
    """A process with a build of one stage `work`, which prints every line of the tool."""
    program = """
import sys
from pathlib import Path
from locallearn.fpga.stages import BuildFolder, tool_stage
from locallearn.fpga.tools import Tool

class Printer:
    def stage(self, text): pass
    def say(self, text): pass
    def rename(self, text): print(text, flush=True)

with BuildFolder(Path(sys.argv[1]), Printer()) as folder:
    folder.run(tool_stage("work", Tool("sh", ("sh", "-c"), "1"), (sys.argv[2],), (), ("out",), str.strip))
"""
    command = [sys.executable, "-c", program, str(path), script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0)
