"""What the tests of builds have in place of tools and of the terminal."""

import json
import sys
from pathlib import Path

from locallearn.fpga.flows import FLOWS
from locallearn.fpga.tools import Tool

# Leaves what the real one leaves, going by its options, and prints its arguments. What nextpnr says is in a file.
STAND_IN = """
import sys
from pathlib import Path

name, folder, *words = sys.argv[1:]
print(*words)
value = dict(zip(words, words[1:]))
if name == "yosys":
    for netlist in ("top.json", "top.syn.json"):
        Path(netlist).write_text(Path("top.il").read_text())
elif name.startswith("nextpnr"):
    print((Path(folder) / "log").read_text())
    assert Path(value["--json"]).exists()
    for option in ("--textcfg", "--asc", "--write", "--fasm"):
        if option in value:
            Path(value[option]).write_text(value["--seed"])
    Path(value["--report"]).write_text((Path(folder) / f"report of {name}").read_text())
    sys.exit(int((Path(folder) / "status").read_text()))
else:
    for bitstream in ("top.bit", "top.bin", "top.fs"):
        Path(bitstream).touch()
"""


class StandIns:
    """Tools that take no time; `set` says what nextpnr is to find."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "tool.py").write_text(STAND_IN)
        self.set()

    def set(self, wanted: float = 25, achieved: float = 80, log: str = "", status: int = 0) -> None:
        for flow in FLOWS.values():
            clock = {"constraint": wanted * flow.haste, "achieved": achieved}
            report = {"fmax": {"clk": clock}, "utilization": {}}
            (self._folder / f"report of {flow.router}").write_text(json.dumps(report))
        for name, text in (("log", log), ("status", str(status))):
            (self._folder / name).write_text(text)

    def find(self, name: str) -> Tool:
        return Tool(name, (sys.executable, str(self._folder / "tool.py"), name, str(self._folder)), "1")


class Diary:
    """Notes down what a build tells."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.phases: list[str] = []
        self.said: list[str] = []

    def stage(self, text: str) -> None:
        self.begun.append(text)

    def rename(self, text: str) -> None:
        self.phases.append(text)

    def say(self, text: str) -> None:
        self.said.append(text)
