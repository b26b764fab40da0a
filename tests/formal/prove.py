"""Claims about a component, proven or refuted by SymbiYosys."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from amaranth import ClockDomain, Elaboratable, Module, Signal, Value
from amaranth.back import rtlil  # type: ignore[attr-defined]  # not in the stubs
from amaranth.hdl import Assert, Assume, Cover
from amaranth.hdl._ast import Initial
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.fpga.tools import find_tool
from locallearn.quant.errors import ToolError

__all__ = ["Claims", "prove", "prove_no_path"]

_TOP = "top"
_PREFIX = "claim_"
_REGISTERS = "$dff,$mem_v2,$memrd_v2"

# A claim's cell in Amaranth's RTLIL, and its name.
_CLAIM = re.compile(r'cell \$check \S+\n(\s+parameter \\FORMAT "(\w+)")')

# What SymbiYosys has to say in the end.
_FAILED = re.compile(rf"failed assertion {_TOP}\.{_PREFIX}(\S+) .*step (\d+)")
_UNREACHED = re.compile(rf"Unreached cover statement at {_TOP}: {_PREFIX}(\S+)")
_NOT_INDUCTIVE = re.compile(rf"Assert failed in {_TOP}: {_PREFIX}(\S+)")


class Claims(Elaboratable):
    """A component, and what is claimed about it. Inputs of the component that nothing drives may be anything.

    The first cycle is a reset, out of any state whatever: no register and no memory has a value before it, and those
    without a reset have none after it. All that is stated counts from the next cycle on.

    m    the module around the component: drives its inputs, keeps registers for the claims' sake
    dut  the component
    """

    def __init__(self, component: "wiring.Component[Any]") -> None:
        self.m = Module()
        self.dut = component
        self.required: list[str] = []
        self.to_reach: list[str] = []
        self._domain = ClockDomain("sync")
        self._locals: dict[int, dict[str, Any]] = {}
        self._anything: list[Signal] = []

    def assume(self, test: Value) -> None:
        """Look only at what makes `test` true in every cycle."""
        self._state(Assume(test))

    def require(self, name: str, test: Value) -> None:
        """Claim that `test` is true in every cycle; `name` is an identifier."""
        self.required.append(name)
        self._state(Assert(test, name))

    def reach(self, name: str, test: Value) -> None:
        """Claim that `test` becomes true in some run; so it is seen that the other claims are about something."""
        self.to_reach.append(name)
        self._state(Cover(test, name))

    def past(self, value: Any, cycles: int = 1) -> Value:
        """`value` some cycles ago; 0 where that was before anything counts."""
        return self.history(value, cycles)[cycles]

    def history(self, value: Any, cycles: int) -> list[Value]:
        """`value` now, one cycle ago, and so on."""
        history = [Value.cast(value)]
        for _ in range(cycles):
            later = Signal(history[-1].shape())
            self.m.d.sync += later.eq(history[-1])
            history.append(later)
        return history

    def anything(self, shape: Any) -> Signal:
        """Any value, another one in every cycle."""
        signal = Signal(shape, name=f"anything_{len(self._anything)}")
        self._anything.append(signal)
        return signal

    def part(self, component: Any, name: str) -> Any:
        """A submodule of the component or of a part of it."""
        return getattr(self._elaborated(component).submodules, name)

    def local(self, component: Any, name: str) -> Any:
        """What a local variable of the component's `elaborate`, or of a method that this calls, holds in the end.

        Induction has to know which states there can be, and the names of signals are not always those of the source.
        """
        self._elaborated(component)
        return self._locals[id(component)][name]

    def state(self, component: Any, machine: str, state: str) -> Signal:
        """Whether a state machine of the component, or of a part of it, is in a state."""
        ongoing: Signal = self._elaborated(component)._generated[machine].ongoing(state)
        return ongoing

    def cut(self, part: Any) -> None:
        """Let the outputs of a submodule be anything in every cycle: no proof then depends on how it makes them."""
        part.elaborate = lambda platform: Module()
        self._anything += [Value.cast(value) for _, member, value in part.signature.flatten(part) if member.flow == Out]

    def _elaborated(self, component: Any) -> Any:
        """The component's module, which it then always is."""
        if id(component) not in self._locals:
            names = self._locals[id(component)] = {}

            def remember(frame: FrameType, event: str, _: object) -> None:
                if event == "return" and frame.f_locals.get("self") is component:
                    names.update(frame.f_locals)

            sys.setprofile(remember)
            try:
                module = component.elaborate(None)
            finally:
                sys.setprofile(None)
            component.elaborate = lambda platform: module
        return component.elaborate(None)

    def elaborate(self, platform: object) -> Module:
        self.m.domains.sync = self._domain
        self.m.submodules.dut = self.dut
        self.m.d.comb += Assume(self._domain.rst == Initial())
        return self.m

    def rtlil(self) -> str:
        """As RTLIL; a claim is a cell of its name."""
        ports = [self._domain.clk, self._domain.rst, *_inputs(self.dut), *self._anything]
        text: str = rtlil.convert(self, name=_TOP, ports=ports, emit_src=False)
        return _CLAIM.sub(rf"cell $check \\{_PREFIX}\2\n\1", text)

    def script(self) -> list[str]:
        """What makes yosys forget all values before the reset."""
        return [
            "setattr -unset init */w:*",
            "delete */t:$meminit_v2",
            f"hierarchy -check -top {_TOP}",
            "proc",
            "flatten",
            "opt_clean",
            "memory_collect",
            "opt -keepdc -fast",
            "check",
        ]

    def _state(self, claim: Any) -> None:
        with self.m.If(~self._domain.rst):
            self.m.d.comb += claim


def prove(
    component: "wiring.Component[Any]",
    state: Callable[[Claims], None],
    folder: Path,
    depth: int = 2,
    *,
    inductive: bool = True,
    reach: int = 20,
) -> None:
    """Prove what `state` claims about `component`, and reach what it says can be reached.

    folder     where counterexamples are left
    depth      cycles that induction looks back; where not `inductive`, the cycles that are looked at at all
    inductive  prove the claims for all time
    reach      cycles in which to reach what is to be reached

    Raises AssertionError with the claim's name and the counterexample's file; ToolError if a tool is missing.
    """
    claims = Claims(component)
    state(claims)
    (folder / "design.il").write_text(claims.rtlil())
    if claims.required:
        unproven = _run(folder, "prove" if inductive else "bmc", depth, claims.script())
        if unproven is not None:
            # A run from the reset on would tell more than states that may never be reached.
            _run(folder, "bmc", reach, claims.script(), timeout_s=60)
            raise AssertionError(f"{unproven} is not inductive in {depth} cycles: {_trace(folder, 'prove', 'induct')}")
    if claims.to_reach:
        _run(folder, "cover", reach, claims.script())


def prove_no_path(component: "wiring.Component[Any]", source: str, target: str, folder: Path) -> None:
    """Prove that no combinational path leads from port `source` to port `target`, whatever it would compute.

    Raises AssertionError if there is one; ToolError if yosys is missing or fails.
    """
    (folder / "design.il").write_text(rtlil.convert(component, name=_TOP, emit_src=False))
    found = folder / "path.txt"
    script = [
        "read_rtlil design.il",
        f"hierarchy -check -top {_TOP}",
        "proc",
        "flatten",
        "opt_clean",
        # Both must be there, or nothing would be proven.
        f"select -assert-count 1 i:{source}",
        f"select -assert-count 1 o:{target}",
        f"tee -o {found.name} select -list o:{target} %ci*:-{_REGISTERS} i:{source} %i",
    ]
    done = subprocess.run(
        [*find_tool("yosys").command, "-q", "-p", "; ".join(script)], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise ToolError(f"yosys failed: {done.stderr.strip()}")
    assert not found.read_text(), f"{target} depends on {source} in the same cycle"


def _inputs(component: "wiring.Component[Any]") -> list[Signal]:
    members = component.signature.flatten(component)
    return [Value.cast(value) for _, member, value in members if member.flow == In]


def _run(folder: Path, mode: str, depth: int, script: list[str], timeout_s: int = 0) -> str | None:
    """Let SymbiYosys look `depth` cycles beyond the reset, or until `timeout_s` where it is not 0.

    Returns the claim that induction could not prove, if there is one.
    Raises AssertionError for what fails or is not reached.
    """
    lines = [
        "[options]",
        f"mode {mode}",
        f"depth {depth + 1}",
        f"timeout {timeout_s}" if timeout_s else "",
        "[engines]",
        "smtbmc --nopresat z3",
        "[script]",
        "read_rtlil design.il",
        *script,
        "[files]",
        "design.il",
    ]
    (folder / f"{mode}.sby").write_text("\n".join(lines))
    # One process at a time.
    command = [*find_tool("sby").command, "-f", "-j", "1", f"{mode}.sby"]
    for name in ("yosys", "yosys-smtbmc", "yosys-witness"):
        command += [f"--{name.removeprefix('yosys-')}", shlex.join(find_tool(name).command)]
    solver = Path(find_tool("z3").command[0])
    path = os.pathsep.join([str(solver.parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PATH": path})
    if done.returncode == 0 or "TIMEOUT" in done.stdout:
        return None
    if found := _FAILED.search(done.stdout):
        raise AssertionError(f"{found[1]} fails in cycle {found[2]}: {_trace(folder, mode)}")
    if found := _UNREACHED.search(done.stdout):
        raise AssertionError(f"{found[1]} is not reached in {depth} cycles")
    if found := _NOT_INDUCTIVE.search(done.stdout):
        return found[1]
    errors = [line for line in done.stdout.splitlines() if "ERROR:" in line] or [done.stderr.strip()]
    raise ToolError(f"SymbiYosys failed: {errors[0]}")


def _trace(folder: Path, mode: str, kind: str = "") -> Path:
    return folder / mode / "engine_0" / f"trace{kind and '_'}{kind}.vcd"
