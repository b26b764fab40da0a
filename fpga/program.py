"""Loads a bitstream into a board, with openFPGALoader."""

import json
import subprocess
from pathlib import Path

from locallearn.fpga.boards import Board
from locallearn.fpga.report import REPORT
from locallearn.fpga.tools import Tool, find_tool
from locallearn.quant.errors import BuildError, DeviceError, ToolError

__all__ = ["program"]

# What openFPGALoader calls the boards.
_NAMES = {
    "ulx3s-85f": "ulx3s",
    "ulx3s-25f": "ulx3s",
    "icebreaker": "ice40_generic",
    "tang-nano-20k": "tangnano20k",
    "tang-nano-9k": "tangnano9k",
    "crosslink-nx-evn": "crosslinknx_evn",
}

# Parts of what openFPGALoader says. Its exit status is 1 whatever happened.
_ABSENT = ("device not found", "Not found", "No DFU compatible device found", "No such device")
_FORBIDDEN = ("usb_open() failed", "inappropriate permissions", "LIBUSB_ERROR_ACCESS", "Permission denied")
_UNKNOWN = "cannot find board"
_UNLINKED = "error while loading shared libraries"


def program(board: Board, folder: Path) -> Path:
    """Load the bitstream that `build` left in `folder`, and return its path.

    It stays until the power goes, but on iCEBreaker, where openFPGALoader writes the flash.

    Raises BuildError if there is none for this board, ToolError if openFPGALoader is missing or fails, DeviceError if
    the board is not connected or must not be opened.
    """
    path = _bitstream(board, folder)
    tool = find_tool("openFPGALoader")
    command = [*tool.command, "-b", _NAMES[board.name], str(path)]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolError(f"{tool.command[0]}: cannot be started: {error.strerror}") from None
    if done.returncode:
        raise _failure(board, tool, done.stdout + done.stderr)
    return path


def _bitstream(board: Board, folder: Path) -> Path:
    report = folder / REPORT
    try:
        built = json.loads(report.read_text())
        name, bitstream = built["board"], built["bitstream"]
    except OSError as error:
        hint = f"locallearn build --board {board.name} --out {folder}"
        raise BuildError(f"{report}: cannot be read: {error.strerror}; `{hint}` makes it") from None
    except (ValueError, KeyError, TypeError):
        raise BuildError(f"{report}: not the report of a build") from None
    if name != board.name:
        raise BuildError(f"{folder}: built for {name}, not for {board.name}")
    if bitstream is None:
        raise BuildError(f"{folder}: its clock is too fast for {name}, so it has no bitstream: build it with --clock")
    path = folder / str(bitstream)
    if not path.exists():
        raise BuildError(f"{path}: is not there, though the report names it: build it again")
    return path


def _failure(board: Board, tool: Tool, said: str) -> DeviceError | ToolError:
    lines = said.strip().splitlines()

    def line(*texts: str) -> str | None:
        return next((line for line in lines if any(text in line for text in texts)), None)

    if found := line(_UNLINKED):
        return ToolError(f"openFPGALoader lacks a library of the system (`apt install openfpgaloader`): {found}")
    if line(_UNKNOWN):
        return ToolError(f"{tool.version} does not know {_NAMES[board.name]}: a newer openFPGALoader is needed")
    if found := line(*_FORBIDDEN):
        return DeviceError(f"{board.name} must not be opened by this user, which is for udev's rules to say: {found}")
    if found := line(*_ABSENT):
        return DeviceError(f"{board.name} is not connected (USB): {found}")
    return ToolError(f"openFPGALoader failed: {lines[-1] if lines else 'it does not say why'}")
