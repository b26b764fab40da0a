"""Finds a C++ compiler: the system's, or else the one in the `ziglang` package."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from locallearn.quant.errors import ToolError

__all__ = ["Compiler", "find_compiler"]

_SYSTEM_COMPILERS = ("g++", "clang++")


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that takes the options of GCC.

    name     as the user knows it
    command  the words that start its command line
    version  one line; different compilers never share one
    """

    name: str
    command: tuple[str, ...]
    version: str


def find_compiler(search: Callable[[str], str | None] = shutil.which) -> Compiler:
    """The first of g++, clang++ and ziglang that is there.

    search  from a program's name to its path, or None if it is not installed

    Raises ToolError if there is none.
    """
    for name in _SYSTEM_COMPILERS:
        path = search(name)
        version = _version(path) if path else None
        if path and version:
            return Compiler(name, (path,), version)
    if find_spec("ziglang"):
        # Without optimisation zig checks for undefined behaviour, and then its run-time library is missed.
        command = (sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined")
        return Compiler("ziglang", command, f"ziglang {metadata.version('ziglang')}")
    raise ToolError("No C++ compiler found: install one with `apt install g++` or `pip install ziglang`.")


def _version(path: str) -> str | None:
    """The first line of --version; None if the program does not run, as macOS's stand-ins may not."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None
