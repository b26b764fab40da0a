"""From a network's description to a bitstream: Amaranth, yosys, nextpnr and the packer, each a stage of the folder."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

from locallearn.fpga.boards import Board
from locallearn.fpga.estimate import estimate
from locallearn.fpga.estimate_fit import check_fit
from locallearn.fpga.flows import FLOWS, UNDEFINED_COLLISIONS, Flow
from locallearn.fpga.nextpnr import Clock, Endless, clocks, ending_phase, phase, too_big, uses
from locallearn.fpga.report import BuildReport
from locallearn.fpga.stages import BuildFolder, Done, Stage, Watcher, tool_stage
from locallearn.fpga.tools import Tool, find_tool
from locallearn.fpga.top import BoardTop, board_clock
from locallearn.quant import machine
from locallearn.quant.errors import BuildError, ToolError
from locallearn.quant.sources import sources_hash
from locallearn.quant.spec import NetworkSpec

__all__ = ["build", "elaborate", "tool_arguments"]

_COMMANDS = "build_top.json"
"""Where Amaranth's platforms write the command lines of the tools; they know the part."""

_PLACED = "nextpnr.json"

_YOSYS_PHASE = re.compile(r"\d+\.\d+\. Executing (\w+) pass")


def build(
    spec: NetworkSpec, board: Board, out: Path, watcher: Watcher, clock_mhz: float | None = None, seed: int = 1
) -> BuildReport:
    """Build the chip of `spec` for `board` in the folder `out`, as far as that is not done there.

    watcher    is told what goes on
    clock_mhz  of the chip; the board's own where it is None
    seed       of place and route: another one gives another Fmax

    The folder then holds spec.toml, report.json, the bitstream, and what the stages between them left: top.il (RTLIL),
    netlist, constraints, routed design, and a log of each tool.

    Raises BuildError if the chip is too big for the part, or misses its clock (report.json then says by how much), or
    if the folder cannot be used; ToolError if a tool is missing or fails.
    """
    clock = board_clock(board, (clock_mhz or board.clock_mhz) * 1e6)
    expected = estimate(spec, board, clock.hz / 1e6)
    check_fit(expected)
    flow = FLOWS[board.target.name]
    tools = {name: find_tool(name) for name in ("yosys", flow.router, flow.packer)}
    job = _Job(spec, board, clock.hz, seed, flow)
    done = {}
    with BuildFolder(out, watcher) as folder:

        def run(stage: Stage) -> Done:
            done[stage.name] = folder.run(stage)
            return done[stage.name]

        (out / "spec.toml").write_text(spec.to_toml())
        run(job.elaboration())
        synthesis, placing, packing = tool_arguments(out)
        run(job.synthesis(tools["yosys"], synthesis))
        routed = run(job.placing(tools[flow.router], placing))
        placed = (out / _PLACED).read_text()
        found = clocks(placed, flow)
        missed = {net: clock for net, clock in found.items() if clock.achieved < clock.wanted}
        if not missed:
            run(job.packing(tools[flow.packer], packing))
        report = BuildReport(
            spec=spec.name,
            fingerprint=spec.fingerprint,
            board=board.name,
            part=board.part,
            seed=seed,
            clock=_chip_clock(found, job.clock_mhz),
            clocks=found,
            expected=expected.expected,
            resources=uses(placed, flow),
            seconds={name: stage.seconds for name, stage in done.items()},
            tools={name: tool.version for name, tool in tools.items()},
            processor=machine.processor(),
            cores=machine.cores(),
            date=routed.date,
            bitstream=None if missed else flow.bitstream,
        )
        report.save(out)
    if missed:
        raise _missed(job, missed)
    return report


@dataclass(frozen=True)
class _Job:
    """The stages of one build."""

    spec: NetworkSpec
    board: Board
    clock_hz: float
    seed: int
    flow: Flow

    @property
    def clock_mhz(self) -> float:
        return self.clock_hz / 1e6

    def elaboration(self) -> Stage:
        """Amaranth's RTLIL, constraints, and script for yosys."""

        def work(folder: Path, log: Path, enter: Callable[[str], None]) -> None:
            elaborate(self.spec, self.board, self.clock_hz, folder)

        writers = sources_hash(
            ("locallearn.quant", "locallearn.rtl", "locallearn.fpga"), ("amaranth", "amaranth-boards")
        )
        return Stage(
            "elaboration",
            (writers, f"{self.spec.fingerprint:08x}", self.board.name, str(self.clock_mhz)),
            (),
            ("top.il", "top.ys", self.flow.constraints, _COMMANDS),
            work,
        )

    def synthesis(self, yosys: Tool, arguments: tuple[str, ...]) -> Stage:
        def enter(line: str) -> str | None:
            found = _YOSYS_PHASE.match(line)
            return found and found[1].lower()

        return tool_stage("synthesis", yosys, arguments, ("top.ys", "top.il"), (self.flow.netlist,), enter)

    def placing(self, nextpnr: Tool, arguments: tuple[str, ...]) -> Stage:
        # A missed clock is not nextpnr's to judge: its figures are wanted all the same.
        asked = ("--seed", str(self.seed), "--freq", str(self.clock_mhz), "--report", _PLACED, "--timing-allow-fail")

        def attempt(heard: Callable[[str], str | None], *more: str) -> Stage:
            return tool_stage(
                "place and route",
                nextpnr,
                (*arguments, *self.flow.options, *more, *asked),
                (self.flow.netlist, self.flow.constraints),
                (self.flow.routed, _PLACED),
                heard,
                partial(too_big, flow=self.flow, name=self.spec.name, part=f"{self.board.name} ({self.board.part})"),
            )

        first, second = attempt(ending_phase, *self.flow.while_ending), attempt(phase)

        def work(folder: Path, log: Path, enter: Callable[[str], None]) -> None:
            try:
                first.work(folder, log, enter)
            except Endless:
                second.work(folder, log, enter)

        return replace(first, work=work)

    def packing(self, packer: Tool, arguments: tuple[str, ...]) -> Stage:
        return tool_stage("bitstream", packer, arguments, (self.flow.routed,), (self.flow.bitstream,))


def elaborate(spec: NetworkSpec, board: Board, clock_hz: float, folder: Path) -> None:
    """Leave Amaranth's RTLIL, constraints, scripts and command lines in the folder."""
    _, *options = FLOWS[board.target.name].synthesis
    # Without the lines of our code, so that a comment changes nothing.
    plan = board.platform().prepare(
        BoardTop(spec, board, clock_hz),
        emit_src=False,
        script_after_read=UNDEFINED_COLLISIONS,
        synth_opts=" ".join(options),
        ecppack_opts="--compress",
    )
    plan.extract(folder)


def tool_arguments(folder: Path) -> list[tuple[str, ...]]:
    """The arguments of yosys, nextpnr and the packer, as Amaranth's platforms left them in the folder.

    All that the tools say is wanted: it goes into the logs.
    """
    commands = json.loads((folder / _COMMANDS).read_text())["commands"]
    lines = [" ".join(word for word in words if word not in ("-q", "--quiet")) for _, *words in commands]
    # Amaranth knows the nextpnr-gowin of old; himbaechel takes two of its options another way.
    return [tuple(re.sub(r"--(family|cst) (\S+)", r"--vopt \1=\2", line).split()) for line in lines]


def _chip_clock(found: dict[str, Clock], clock_mhz: float) -> Clock:
    """What was asked for, and the slowest of the nets that it was asked of: that before the PLL is another."""
    fast = [clock for clock in found.values() if abs(clock.wanted / clock_mhz - 1) < 0.01]
    if not fast:
        raise ToolError(f"nextpnr names no clock of {clock_mhz:g} MHz, but {found}")
    return Clock(clock_mhz, min(clock.achieved for clock in fast))


def _missed(job: _Job, missed: dict[str, Clock]) -> BuildError:
    net, clock = min(missed.items(), key=lambda item: item[1].achieved / item[1].wanted)
    text = (
        f"{job.spec.name} on {job.board.name} misses its clock: {net} reaches {clock.achieved:.2f} MHz, "
        f"{clock.wanted:.2f} MHz were wanted with seed {job.seed}: try another --seed"
    )
    try:
        slower = board_clock(job.board, clock.achieved * 1e6)
    except BuildError:  # the board has no clock as slow as that
        return BuildError(text)
    # Rounded up: what is asked for is what the clock is at most.
    return BuildError(f"{text}, or --clock {ceil(slower.hz / 1e4) / 100:g}")
