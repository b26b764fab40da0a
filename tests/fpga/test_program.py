"""Loading a board: what openFPGALoader is told, and what its words become.

The words are those of releases 0.10.0 and 1.1.1 without a board, and of its sources where a board would be needed.
"""

import json
from pathlib import Path

import pytest

from locallearn.fpga import program as program_module
from locallearn.fpga.boards import BOARDS, find_board
from locallearn.fpga.program import program
from locallearn.fpga.tools import Tool
from locallearn.quant.errors import BuildError, DeviceError, LocalLearnError, ToolError


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "report.json").write_text(json.dumps({"board": "ulx3s-85f", "bitstream": "top.bit"}))
    (tmp_path / "top.bit").touch()
    return tmp_path


def loader(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = Tool("openFPGALoader", ("sh", "-c", script, "sh"), "openFPGALoader v0.10.0")
    monkeypatch.setattr(program_module, "find_tool", {"openFPGALoader": tool}.__getitem__)


def test_what_it_is_told(monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    loader(monkeypatch, f'echo "$@" > {built}/told')
    assert program(find_board("ulx3s-85f"), built) == built / "top.bit"
    assert (built / "told").read_text().split() == ["-b", "ulx3s", str(built / "top.bit")]


def test_every_board_has_a_name_there() -> None:
    assert set(program_module._NAMES) == set(BOARDS)


@pytest.mark.parametrize(
    ("says", "kind", "message"),
    [
        (
            "unable to open ftdi device: -3 (device not found)\nJTAG init failed with: unable to open ftdi device",
            DeviceError,
            "ulx3s-85f is not connected (USB): unable to open ftdi device: -3 (device not found)",
        ),
        (
            "Open device 1d50:6146 Not found\nDFU init failed with: No DFU compatible device found",
            DeviceError,
            "ulx3s-85f is not connected (USB): Open device 1d50:6146 Not found",
        ),
        (
            "unable to open ftdi device: -4 (usb_open() failed)\nJTAG init failed with: unable to open ftdi device",
            DeviceError,
            "ulx3s-85f must not be opened by this user, which is for udev's rules to say: "
            "unable to open ftdi device: -4 (usb_open() failed)",
        ),
        (
            "Error: cannot find board 'ulx3s'",
            ToolError,
            "openFPGALoader v0.10.0 does not know ulx3s: a newer openFPGALoader is needed",
        ),
        (
            "openFPGALoader: error while loading shared libraries: libusb-1.0.so.0: cannot open shared object file",
            ToolError,
            "openFPGALoader lacks a library of the system (`apt install openfpgaloader`): openFPGALoader: error while "
            "loading shared libraries: libusb-1.0.so.0: cannot open shared object file",
        ),
        ("Load SRAM\nError: CRC mismatch", ToolError, "openFPGALoader failed: Error: CRC mismatch"),
        ("", ToolError, "openFPGALoader failed: it does not say why"),
    ],
)
def test_it_fails(
    monkeypatch: pytest.MonkeyPatch, built: Path, says: str, kind: type[LocalLearnError], message: str
) -> None:
    (built / "says").write_text(says)
    loader(monkeypatch, f"cat {built}/says >&2; exit 1")
    with pytest.raises(kind) as failure:
        program(find_board("ulx3s-85f"), built)
    assert str(failure.value) == message


def test_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    tool = Tool("openFPGALoader", ("/no/such/loader",), "1")
    monkeypatch.setattr(program_module, "find_tool", lambda name: tool)
    with pytest.raises(ToolError, match=r"^/no/such/loader: cannot be started: No such file or directory$"):
        program(find_board("ulx3s-85f"), built)


def test_nothing_was_built(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as failure:
        program(find_board("icebreaker"), tmp_path)
    assert str(failure.value) == (
        f"{tmp_path}/report.json: cannot be read: No such file or directory; "
        f"`locallearn build --board icebreaker --out {tmp_path}` makes it"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"board": "ulx3s-85f"}'])
def test_not_the_report_of_a_build(built: Path, text: str) -> None:
    (built / "report.json").write_text(text)
    with pytest.raises(BuildError, match=r"report\.json: not the report of a build$"):
        program(find_board("ulx3s-85f"), built)


def test_built_for_another_board(built: Path) -> None:
    with pytest.raises(BuildError, match=r": built for ulx3s-85f, not for ulx3s-25f$"):
        program(find_board("ulx3s-25f"), built)


def test_the_clock_was_missed(built: Path) -> None:
    (built / "report.json").write_text(json.dumps({"board": "ulx3s-85f", "bitstream": None}))
    with pytest.raises(BuildError, match=r"its clock is too fast for ulx3s-85f, so it has no bitstream: build it with"):
        program(find_board("ulx3s-85f"), built)


def test_the_bitstream_is_gone(built: Path) -> None:
    (built / "top.bit").unlink()
    with pytest.raises(BuildError, match=r"top\.bit: is not there, though the report names it: build it again$"):
        program(find_board("ulx3s-85f"), built)
