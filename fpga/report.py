"""What came out of a build, with units in the names of its figures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from locallearn.fpga.estimate import Speed
from locallearn.fpga.nextpnr import Clock, Use

__all__ = ["REPORT", "BuildReport"]

REPORT = "report.json"
"""Its name in the build folder."""


@dataclass(frozen=True)
class BuildReport:
    """A placed and routed design.

    spec, fingerprint  name of the description, and the 32 bits that its chip answers with
    board, part        names
    seed               of place and route
    clock              that of the chip, in MHz
    clocks             every clock of the design by net, in MHz
    expected           how fast samples should go at this clock, as `estimate` says
    resources          lut, ff, dsp, block_ram, spram, as far as the part has them and nextpnr counts them
    seconds            wall time by stage, of when it was done
    tools              versions by name
    processor, cores   of the machine that it was built on
    date               ISO 8601
    bitstream          name of the file; None where a clock was missed
    """

    spec: str
    fingerprint: int
    board: str
    part: str
    seed: int
    clock: Clock
    clocks: dict[str, Clock]
    expected: Speed
    resources: dict[str, Use]
    seconds: dict[str, float]
    tools: dict[str, str]
    processor: str
    cores: int
    date: str
    bitstream: str | None

    def figures(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "spec": self.spec,
            "fingerprint": f"{self.fingerprint:08x}",
            "board": self.board,
            "part": self.part,
            "seed": self.seed,
            "fclk[mhz]": self.clock.wanted,
            "fmax[mhz]": self.clock.achieved,
            "clocks": {
                net: {"wanted[mhz]": clock.wanted, "achieved[mhz]": clock.achieved}
                for net, clock in self.clocks.items()
            },
            "expected": self.expected.figures(),
            "resources": {name: asdict(use) for name, use in self.resources.items()},
            "wall_time[s]": self.seconds,
            "tools": self.tools,
            "processor": self.processor,
            "cores": self.cores,
            "date": self.date,
            "bitstream": self.bitstream,
        }

    def save(self, folder: Path) -> None:
        (folder / REPORT).write_text(json.dumps(self.figures(), indent=2) + "\n")
