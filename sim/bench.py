"""cocotb benches: a component becomes a Verilator simulation, and a Python module's cocotb tests run inside it.

The side of pytest calls `run_bench`; within the simulation, `parameters`, `start` and `cycle` serve the tests.
cocotb is for development only: nothing that the command line imports may import this module.
"""

import os
import pickle
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import cocotb
from amaranth import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.triggers import RisingEdge
from cocotb_tools.runner import get_runner

from locallearn.quant.errors import ToolError
from locallearn.sim.build import find_verilator
from locallearn.sim.export import to_verilog

__all__ = ["cycle", "parameters", "ports", "run_bench", "start"]

_TOP = "top"
_EMPTY = f"module {_TOP}(input clk); endmodule\n"

_VERILATE = (
    # Lint finds fault with the widths that Amaranth writes, which are right.
    *("-Wno-lint", "-Wno-fatal", "--output-split", "0"),
    # The runner would keep every wire for benches to see, which simulates at half the speed; they see ports alone.
    "--no-public-flat-rw",
)

# Benches are short: compiling a design with more would take longer than it saves. The run-time library, which all of
# them share, is worth it: it brings every value from and to Python. The runner knows no option for that.
_MAKE = "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O1"

# Verilator's headers take the compiler longer than most designs: a rule of Verilator's makefile reads them ahead. What
# is left beside a file of this name is taken in its place where that is included first.
_HEADER = "verilated_vpi.h.fast"

_PERIOD = 10
"""Of the clock, in ns."""

_LOG_LINES_SHOWN = 30


# -- the side of pytest ------------------------------------------------------------------------------------


def run_bench(
    component: "wiring.Component[Any]",
    module: str,
    folder: Path,
    cache: Path,
    parameters: object = None,
    verilog: str | None = None,
    seed: int = 1,
) -> None:
    """Run all cocotb tests of `module` with `component` as their `dut`.

    module      name of the Python module; the tests in it may be any number, one after another
    folder      where log and results are left
    cache       where simulations are kept, by the hash of what they are made from; several processes may share it
    parameters  what `parameters()` gives in the simulation; anything that can be pickled
    verilog     what is simulated: by default what `to_verilog` makes of the component; a netlist, or the primitives
                that it has, may be in its place
    seed        of `random`, which cocotb seeds anew for each test

    Raises AssertionError with the message of each test that failed, ToolError if the simulation cannot be built.
    """
    flows = {
        "__".join(map(str, path)): member.flow
        for path, member, _ in component.signature.flatten(component)
        if Shape.cast(member.shape).width
    }
    inputs = [name for name, flow in flows.items() if flow == In]
    simulation = _build(to_verilog(component, _TOP) if verilog is None else verilog, ["clk", "rst", *flows], cache)
    context, results, log = folder / "context.pickle", folder / "results.xml", folder / "simulation.log"
    context.write_bytes(pickle.dumps((inputs, parameters)))
    complete = False
    with _environment(), suppress(SystemExit, RuntimeError):
        # The runner raises these if tests failed, or the simulation did; the results say more.
        get_runner("verilator").test(
            test_module=module,
            hdl_toplevel=_TOP,
            hdl_toplevel_lang="verilog",
            build_dir=simulation,
            test_dir=folder,
            # Without it cocotb compiles all modules anew, NumPy's too, to say more of their assertions.
            extra_env={"COCOTB_REWRITE_ASSERTION_FILES": f"{module.partition('.')[0]}/*.py"},
            results_xml=str(results),
            plusargs=[f"+context={context}"],
            seed=seed,
            log_file=log,
        )
        complete = True
    tests = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
    said = _failures(tests)
    if not complete or said or not tests:
        said = said or ["the simulation ended without a result:", *_end(log)]
        raise AssertionError("\n".join([*said, f"seed {seed}; the log is {log}"]))


def _failures(tests: list[ElementTree.Element]) -> list[str]:
    """A text for every test that failed."""
    return [
        f"{test.get('name')}: {failure.get('type')}: {failure.get('message')}"
        for test in tests
        for failure in [*test.iter("failure"), *test.iter("error")]
    ]


def _end(log: Path) -> list[str]:
    return log.read_text().splitlines()[-_LOG_LINES_SHOWN:]


@contextmanager
def _environment() -> Iterator[None]:
    """The runner takes its tools and options from the environment."""
    root = find_verilator()
    before = dict(os.environ)
    os.environ |= {"VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{before['PATH']}"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _build(verilog: str, seen: Sequence[str], cache: Path) -> Path:
    """The folder of the simulation of `verilog`, made unless it is in the cache; benches see these ports of it."""
    # Verilator's run-time library is the same for all designs and takes longer than most of them: the first process
    # makes it, and the others wait.
    with (cache / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        runtime = _cached(_EMPTY, (), cache, f"{_MAKE} --eval=default:{_HEADER}.gch", (), keep="verilated*")
        header = runtime / _HEADER
        if not header.exists():  # for compilers that do not take what was read ahead
            header.write_text('#include "verilated_vpi.h"\n')
    objects = " ".join(str(file) for file in sorted(runtime.glob("*.o")))
    make = f"{_MAKE} VM_GLOBAL_FAST= USER_CPPFLAGS=-include{header}"
    return _cached(verilog, seen, cache, make, ("-LDFLAGS", objects), keep=_TOP)


def _cached(verilog: str, seen: Sequence[str], cache: Path, make: str, options: tuple[str, ...], keep: str) -> Path:
    """The folder with the files that match `keep` after `verilog` was built."""
    # The libraries of cocotb are found by their place.
    tools = [sys.prefix, *(f"{name} {metadata.version(name)}" for name in ("verilator", "cocotb"))]
    control = "\n".join(["`verilator_config", *(f'public_flat_rw -module "{_TOP}" -var "{name}"' for name in seen), ""])
    key = sha256("\0".join([*tools, *_VERILATE, make, *options, keep, control, verilog]).encode()).hexdigest()[:32]
    place = cache / key
    if place.exists():
        return place
    # Beside its place, so that a finished folder gets there in a single step.
    with TemporaryDirectory(prefix="unfinished-", dir=cache) as scratch, _environment():
        names = (f"{_TOP}.v", f"{_TOP}.vlt", "log", "build", "done")
        source, ports, log, build, done = (Path(scratch, name) for name in names)
        source.write_text(verilog)
        ports.write_text(control)
        os.environ["MAKEFLAGS"] = make
        try:
            get_runner("verilator").build(
                sources=[ports, source],
                hdl_toplevel=_TOP,
                build_dir=build,
                build_args=[*_VERILATE, *options],
                log_file=log,
            )
        except SystemExit as error:
            raise ToolError(f"cocotb cannot build with Verilator: {error}") from None
        except RuntimeError as error:
            said = "\n".join(_end(log))
            raise ToolError(f"Verilator, make or the C++ compiler failed: {error}\n{said}") from None
        done.mkdir()
        for file in build.glob(keep):
            shutil.move(file, done)
        try:
            done.rename(place)
        except OSError:
            # Another process was faster; its folder is as good.
            if not place.exists():
                raise
    return place


# -- within the simulation ---------------------------------------------------------------------------------


def _context() -> tuple[list[str], Any]:
    inputs, parameters = pickle.loads(Path(str(cocotb.plusargs["context"])).read_bytes())
    return inputs, parameters


def parameters() -> Any:
    """What `run_bench` was given."""
    return _context()[1]


def ports(dut: Any, name: str, count: int) -> list[Any]:
    """The ports of a member that is an array."""
    return [getattr(dut, f"{name}__{index}") for index in range(count)]


_started = 0


def cycle() -> int:
    """Rising edges of the clock since `start`."""
    return (int(get_sim_time("ns")) - _started) // _PERIOD


async def start(dut: Any) -> None:
    """Clock and reset for a test: all inputs 0, all registers at their first values. Memories keep theirs.

    A test reads and writes ports after rising edges: it reads what registers see at that edge, and what it
    writes holds until the next.
    """
    global _started
    inputs, _ = _context()
    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, _PERIOD, "ns").start()
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    _started = int(get_sim_time("ns"))
