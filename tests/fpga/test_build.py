"""From a description to a bitstream: one build with the real tools, and with stand-ins whatever can become of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from locallearn.fpga import build as build_module
from locallearn.fpga.boards import BOARDS, Board, find_board
from locallearn.fpga.build import build
from locallearn.fpga.report import BuildReport
from locallearn.fpga.tools import Tool, find_tool
from locallearn.quant.errors import BuildError, ToolError
from locallearn.quant.spec import NetworkSpec
from tests.fpga.stand_ins import Diary, StandIns

SPEC = NetworkSpec.from_toml(
    'name = "tiny"\nclasses = 3\ninput = { size = 8 }\nlayers = [{ neurons = 4, lanes = 2 }]\n', "tiny.toml"
)
STAGES = ["elaboration", "synthesis", "place and route", "bitstream"]


# -- the real tools ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport, Diary]:
    """A chip placed and routed at a clock that it makes with ease: about a minute."""
    out, diary = tmp_path_factory.mktemp("build"), Diary()
    return out, build(SPEC, find_board("ulx3s-25f"), out, diary, clock_mhz=25, seed=2), diary


def test_a_bitstream(built: tuple[Path, BuildReport, Diary]) -> None:
    out, report, diary = built
    assert report.bitstream == "top.bit"
    # As ECP5 wants them to begin, behind a comment.
    assert b"\xff\xff\xbd\xb3" in (out / "top.bit").read_bytes()[:200]
    assert diary.begun == STAGES
    assert {"synthesis: proc", "place and route: packing", "place and route: routing 1"} <= set(diary.phases)
    assert NetworkSpec.from_toml((out / "spec.toml").read_text(), "spec.toml") == SPEC


def test_multipliers_and_memories_are_where_they_belong(built: tuple[Path, BuildReport, Diary]) -> None:
    """A changed style of port would silently turn them into LUTs."""
    _, report, _ = built
    assert report.resources["dsp"].used >= SPEC.layers[0].lanes
    assert report.resources["block_ram"].used >= SPEC.layers[0].lanes
    assert 500 < report.resources["lut"].used < 5000
    available = {name: use.available for name, use in report.resources.items()}
    assert available == {"lut": 24288, "ff": 24288, "dsp": 28, "block_ram": 56}


def test_the_report(built: tuple[Path, BuildReport, Diary]) -> None:
    out, report, _ = built
    figures = json.loads((out / "report.json").read_text())
    assert figures == report.figures()
    known = {"spec": "tiny", "fingerprint": f"{SPEC.fingerprint:08x}", "board": "ulx3s-25f", "seed": 2}
    assert figures.items() >= known.items()
    assert figures["part"] == "LFE5U-25F-6BG381C"
    assert figures["fclk[mhz]"] == 25 < figures["fmax[mhz]"] < 400
    (clock,) = figures["clocks"].values()
    assert clock == {"wanted[mhz]": 25, "achieved[mhz]": figures["fmax[mhz]"]}
    assert set(figures["tools"]) == {"yosys", "nextpnr-ecp5", "ecppack"}
    assert list(figures["wall_time[s]"]) == STAGES
    assert all(seconds > 0 for seconds in figures["wall_time[s]"].values())
    assert figures["cores"] >= 1


def test_the_second_build_runs_no_tool(built: tuple[Path, BuildReport, Diary], monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(*command: Any, **options: Any) -> None:
        raise AssertionError(command)

    out, report, _ = built
    monkeypatch.setattr("subprocess.Popen", popen)
    diary = Diary()
    assert build(SPEC, find_board("ulx3s-25f"), out, diary, clock_mhz=25, seed=2) == report
    assert diary.begun == []
    assert [line.split("  ")[0] for line in diary.said] == STAGES


# -- stand-ins -----------------------------------------------------------------------------------------------------


def run(out: Path, board: str = "ulx3s-25f", spec: NetworkSpec = SPEC, **options: Any) -> list[str]:
    """Build; returns the names of the stages that were really done."""
    diary = Diary()
    build(spec, find_board(board), out, diary, **{"clock_mhz": 25} | options)
    return diary.begun


@pytest.mark.usefixtures("tools")
def test_what_is_done_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(out) == STAGES
    assert run(out) == []
    assert run(out, seed=2) == STAGES[2:]
    assert run(out, spec=SPEC.replaced({"layers.0.lanes": 1})) == STAGES
    # The same chip by another name, or another seed of its training.
    other = SPEC.replaced({"layers.0.lanes": 1, "name": "other", "training.seed": 7})
    assert run(out, spec=other) == []
    assert NetworkSpec.from_toml((out / "spec.toml").read_text(), "") == other


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_commands_of_every_board(tmp_path: Path, tools: StandIns, board: Board) -> None:
    """Each tool finds its inputs, and is told the part, the clock and where to leave what the next one needs."""
    tools.set(wanted=board.clock_mhz, achieved=board.clock_mhz + 1)
    report = build(SPEC, board, tmp_path / "out", Diary(), seed=3)
    assert report.bitstream is not None
    assert (tmp_path / "out" / report.bitstream).exists()
    said = (tmp_path / "out" / "place-and-route.log").read_text()
    told = {
        "ulx3s-85f": "--85k --package CABGA381 --speed 6 --json top.json --lpf top.lpf --textcfg top.config "
        "--placer static --router router2",
        "ulx3s-25f": "--25k --package CABGA381 --speed 6",
        "icebreaker": "--up5k --package sg48 --json top.json --pcf top.pcf --asc top.asc",
        "tang-nano-20k": "--device GW2AR-LV18QN88C8/I7 --vopt family=GW2A-18C --json top.syn.json --vopt cst=top.cst",
        "tang-nano-9k": "--device GW1NR-LV9QN88PC6/I5 --vopt family=GW1N-9C",
        "crosslink-nx-evn": "--device LIFCL-40-9BG400C --pdc top.pdc --json top.json --fasm top.fasm --router router1",
    }
    assert told[board.name] in said
    assert f"--seed 3 --freq {board.clock_mhz:.1f} --report nextpnr.json --timing-allow-fail" in said
    assert "--quiet" not in said


@pytest.mark.usefixtures("tools")
def test_collisions_are_left_undefined_before_synthesis(tmp_path: Path) -> None:
    run(tmp_path / "out")
    script = (tmp_path / "out" / "top.ys").read_text()
    read, masked, synthesised = (script.index(word) for word in ("read_rtlil", "COLLISION_X_MASK", "synth_ecp5"))
    assert read < masked < synthesised


def test_a_router_that_comes_to_no_end(tmp_path: Path, tools: StandIns) -> None:
    """It is asked again, for less."""
    line = "Info:     iter={} wires=421533 overused={} overuse=0 tmgfail=13 archfail=NA"
    log = tmp_path / "out" / "place-and-route.log"
    for iteration, overused, kept in ((200, 0, True), (201, 3, True), (201, 0, False)):
        tools.set(log=line.format(iteration, overused))
        assert run(tmp_path / "out", seed=iteration + overused) in (STAGES, STAGES[2:])
        assert ("--tmg-ripup" in log.read_text().splitlines()[0]) == kept


def test_too_big(tmp_path: Path, tools: StandIns) -> None:
    tools.set(log="Info: Device utilisation:\nInfo: \t MULT18X18D:   32/   28   114%\nERROR: Unable", status=125)
    with pytest.raises(BuildError) as failure:
        run(tmp_path / "out")
    assert str(failure.value) == "tiny does not fit ulx3s-25f (LFE5U-25F-6BG381C): needed are 32 dsp (it has 28)"
    assert not (tmp_path / "out" / "report.json").exists()


def test_another_failure_of_nextpnr(tmp_path: Path, tools: StandIns) -> None:
    tools.set(log="ERROR: out of luck", status=1)
    with pytest.raises(ToolError, match=r"nextpnr-ecp5 failed \(exit status 1, .*\):\n(?s:.*)ERROR: out of luck"):
        run(tmp_path / "out")


def test_a_missed_clock(tmp_path: Path, tools: StandIns) -> None:
    """The report says by how much; there is no bitstream, and what is left of a slower one is not named."""
    out = tmp_path / "out"
    run(out)
    tools.set(wanted=100, achieved=71.234)
    with pytest.raises(BuildError) as failure:
        run(out, clock_mhz=100)
    assert str(failure.value) == (
        "tiny on ulx3s-25f misses its clock: clk reaches 71.23 MHz, 100.00 MHz were wanted with seed 1: "
        "try another --seed, or --clock 70.84"
    )
    report = json.loads((out / "report.json").read_text())
    assert (report["fclk[mhz]"], report["fmax[mhz]"], report["bitstream"]) == (100, 71.234, None)
    tools.set(wanted=70.833, achieved=71.234)
    # The stand-in routes as it did for 25 MHz, of which there is the bitstream.
    assert run(out, clock_mhz=70.84) == STAGES[:3]
    assert json.loads((out / "report.json").read_text())["bitstream"] == "top.bit"


def test_a_missed_clock_where_no_slower_one_will_do(tmp_path: Path, tools: StandIns) -> None:
    tools.set(wanted=16.5, achieved=16)
    with pytest.raises(BuildError) as failure:
        run(tmp_path / "out", "icebreaker", clock_mhz=16.5)
    assert str(failure.value) == (
        "tiny on icebreaker misses its clock: clk reaches 16.00 MHz, 16.50 MHz were wanted with seed 1: "
        "try another --seed"
    )


def test_a_design_without_the_chips_clock(tmp_path: Path, tools: StandIns) -> None:
    tools.set(wanted=12)
    with pytest.raises(ToolError, match=r"^nextpnr names no clock of 25 MHz, but \{'clk': Clock\(wanted=12.0,"):
        run(tmp_path / "out")


def test_missing_tools_are_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Tool:
        if name == "ecppack":
            raise ToolError("ecppack is missing")
        return find_tool(name)

    monkeypatch.setattr(build_module, "find_tool", find)
    with pytest.raises(ToolError, match=r"^ecppack is missing$"):
        run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
