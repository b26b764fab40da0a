"""Which C++ compiler is chosen."""

import stat
import sys
from pathlib import Path

import pytest

from locallearn.quant.errors import ToolError
from locallearn.sim import compiler
from locallearn.sim.compiler import find_compiler


def program(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    return {
        "g++": program(tmp_path, "g++", "echo 'g++ 13.1'; echo 'no warranty'"),
        "clang++": program(tmp_path, "clang++", "echo 'clang 18'"),
    }


def test_gcc_is_preferred(installed: dict[str, str]) -> None:
    found = find_compiler(installed.get)
    assert (found.name, found.command, found.version) == ("g++", (installed["g++"],), "g++ 13.1")


def test_clang_is_second(installed: dict[str, str]) -> None:
    del installed["g++"]
    found = find_compiler(installed.get)
    assert (found.name, found.command, found.version) == ("clang++", (installed["clang++"],), "clang 18")


@pytest.mark.parametrize("script", ["exit 1", "true"])
def test_program_without_a_version_is_passed_over(installed: dict[str, str], tmp_path: Path, script: str) -> None:
    program(tmp_path, "g++", script)
    assert find_compiler(installed.get).name == "clang++"


def test_ziglang_is_last() -> None:
    found = find_compiler(lambda name: None)
    assert found.name == "ziglang"
    assert found.command[:4] == (sys.executable, "-m", "ziglang", "c++")


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"No C\+\+ compiler.*`apt install g\+\+` or `pip install ziglang`"):
        find_compiler(lambda name: None)
