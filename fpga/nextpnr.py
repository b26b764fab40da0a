"""What nextpnr says: where it is, what a design takes of a part, how fast its clocks may be."""

import json
import re
from dataclasses import dataclass
from math import ceil

from locallearn.fpga.flows import Flow
from locallearn.quant.errors import BuildError

__all__ = ["Clock", "Endless", "Use", "clocks", "ending_phase", "phase", "too_big", "uses"]

_PHASES = (
    (re.compile(r"Info: Pack"), "packing"),
    (re.compile(r"Info: +at initial placer iter (\d+)"), "first placement {}"),
    (re.compile(r"Info: +at iteration #(\d+), type ALL"), "placing {}"),
    (re.compile(r"Info: +at iteration #(\d+): temp"), "refining {}"),
    (re.compile(r"Info: Routing"), "routing"),
    (re.compile(r"Info: +iter=(\d+)"), "routing {}"),
    (re.compile(r"Info: +\d+ \|.*\| +(\d+)\|"), "routing, {} arcs left"),
)

_ROUTED = re.compile(r"Info: +iter=(\d+) .* overused=0 ")
"""Rounds of router2 in which every wire is already nobody else's, and some are taken up again for being late."""

_ROUNDS = 200
"""None came to an end after so many; those that did took 32 to 97."""

_UTILISATION = re.compile(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%$", re.MULTILINE)

_NO_ROOM = re.compile(r"^ERROR: (.*(?:no BELs remaining|[Uu]nable to (?:find|place)|failed to place).*)$", re.MULTILINE)


@dataclass(frozen=True)
class Use:
    """How much of a resource there is, and is used."""

    used: int
    available: int


@dataclass(frozen=True)
class Clock:
    """Frequencies in MHz: what was asked for, and what the slowest path allows."""

    wanted: float
    achieved: float


class Endless(Exception):  # nothing failed
    """router2 takes up late wires again and again: the clock is out of its reach."""


def ending_phase(line: str) -> str | None:
    """As `phase`; raises Endless."""
    if (routed := _ROUTED.match(line)) and int(routed[1]) > _ROUNDS:
        raise Endless
    return phase(line)


def phase(line: str) -> str | None:
    """The name of the phase that begins with this line of the log."""
    for pattern, name in _PHASES:
        if found := pattern.match(line):
            return name.format(*found.groups())
    return None


def uses(report: str, flow: Flow) -> dict[str, Use]:
    """By resource, from nextpnr's report."""
    cells = json.loads(report)["utilization"]
    return _by_resource({name: Use(cell["used"], cell["available"]) for name, cell in cells.items()}, flow)


def clocks(report: str, flow: Flow) -> dict[str, Clock]:
    """By net, from nextpnr's report: of every clock that some flip-flop runs on."""
    return {
        net: Clock(round(clock["constraint"] / flow.haste, 3), round(clock["achieved"], 3))
        for net, clock in json.loads(report)["fmax"].items()
    }


def too_big(log: str, flow: Flow, name: str, part: str) -> BuildError | None:
    """What a design called `name` has too much of for `part`, if that is why nextpnr failed.

    Where nextpnr found no place although there is enough of everything, all resources are named.
    """
    cells = {cell: Use(int(used), int(available)) for cell, used, available in _UTILISATION.findall(log)}
    resources = _by_resource(cells, flow)
    over = {resource: use for resource, use in resources.items() if use.used > use.available}
    if over:
        needs = ", ".join(f"{use.used} {resource} (it has {use.available})" for resource, use in over.items())
        return BuildError(f"{name} does not fit {part}: needed are {needs}")
    if resources and (error := _NO_ROOM.search(log)):
        needs = ", ".join(f"{use.used} of {use.available} {resource}" for resource, use in resources.items())
        return BuildError(f"{name} does not fit {part}, if only just: needed are {needs}; nextpnr says: {error[1]}")
    return None


def _by_resource(cells: dict[str, Use], flow: Flow) -> dict[str, Use]:
    """Sums of cells; `available` is that of the first kind, the others being made of the same."""
    resources = {}
    for resource, kinds in flow.cells.items():
        there = [(cells[kind], takes) for kind, takes in kinds.items() if kind in cells]
        if there:
            used = ceil(sum(cell.used * takes for cell, takes in there))
            resources[resource] = Use(used, there[0][0].available)
    return resources
