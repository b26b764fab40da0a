"""What the tests of builds share."""

from pathlib import Path

import pytest

from locallearn.fpga import build as build_module
from tests.fpga.stand_ins import StandIns


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """Builds run these instead of yosys, nextpnr and packers."""
    folder = tmp_path / "tools"
    folder.mkdir()
    stand_ins = StandIns(folder)
    monkeypatch.setattr(build_module, "find_tool", stand_ins.find)
    return stand_ins
