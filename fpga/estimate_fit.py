"""Whether a chip fits its board, and if not, which one nearest to it would."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from locallearn.fpga.boards import Board
from locallearn.fpga.estimate import Estimate
from locallearn.fpga.estimate_activity import Activity
from locallearn.fpga.estimate_cycles import estimate_layer_cycles
from locallearn.fpga.estimate_resources import estimate_resources
from locallearn.quant.errors import BuildError
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, NetworkSpec

__all__ = ["check_fit", "nearest_fit"]

_STEPS = 256
"""Of the search for the most neurons that fit."""


def check_fit(estimate: Estimate) -> None:
    """Raises BuildError where the chip does not fit its board, with what is missing and the nearest change that fits.

    LUTs and flip-flops count as too many where they are that beyond the estimate's error.
    """
    if not estimate.over:
        return
    spec, board = estimate.spec, estimate.board
    needs = ", ".join(f"{use.used} {resource} (it has {use.available})" for resource, use in estimate.over.items())
    nearest = nearest_fit(spec, board, estimate.expected.activity)
    hint = f"this would fit: {_changes(spec, nearest)}" if nearest else "no smaller one would fit"
    raise BuildError(f"{spec.name} does not fit {board.name} ({board.part}): needed are {needs}; {hint}")


def nearest_fit(spec: NetworkSpec, board: Board, activity: Activity) -> NetworkSpec | None:
    """The network itself if it fits, else the fastest of fewer lanes that does; where none does, of the most neurons in
    the same proportions; and where that is not enough, the same of fewer layers, unless others learn from the last
    (where scores are summed, two stay)."""
    if _fits(spec, board):
        return spec
    least = 1 + spec.sum_scores
    if any(layer.classifier.error == "top" for layer in spec.layers):
        least = len(spec.layers)
    for count in range(len(spec.layers), least - 1, -1):
        first = replace(spec, layers=spec.layers[:count])
        samples = replace(activity, layers=activity.layers[:count])
        if found := _with_fewer_lanes(first, board, samples) or _with_fewer_neurons(first, board, samples):
            return found
    return None


def _with_fewer_neurons(spec: NetworkSpec, board: Board, activity: Activity) -> NetworkSpec | None:
    sizes = [_with_neurons(spec, step) for step in range(1, _STEPS)]
    too_big = bisect_left(sizes, True, key=lambda size: not _with_fewer_lanes(size, board, activity))
    return _with_fewer_lanes(sizes[too_big - 1], board, activity) if too_big else None


def _with_fewer_lanes(spec: NetworkSpec, board: Board, activity: Activity) -> NetworkSpec | None:
    """The fastest, with as many lanes as there is room for; None if a lane a layer is too much."""
    choices = _choices(spec, board, activity)
    # A chip is as fast as its slowest layer: the others need no more lanes than keep up with it.
    slowest = max(min(cycles) for cycles in choices)
    limits = sorted({cycles for layer in choices for cycles in layer if cycles >= slowest})

    def within(limit: float) -> NetworkSpec:
        return _with_lanes(spec, [min(n for cycles, n in layer.items() if cycles <= limit) for layer in choices])

    place = bisect_left(limits, True, key=lambda limit: _fits(within(limit), board))
    if place == len(limits):
        return None
    found = within(limits[place])
    for number, choice in enumerate(choices):
        found = _with_most_lanes(found, number, list(choice.values()), board)
    return found


def _with_most_lanes(spec: NetworkSpec, number: int, choice: Sequence[int], board: Board) -> NetworkSpec:
    """As many of the ascending choice as fit in one layer, not fewer than it has."""
    lanes = [layer.lanes for layer in spec.layers]
    more = [_with_lanes(spec, [*lanes[:number], n, *lanes[number + 1 :]]) for n in choice if n > lanes[number]]
    too_many = bisect_left(more, True, key=lambda one: not _fits(one, board))
    return more[too_many - 1] if too_many else spec


def _choices(spec: NetworkSpec, board: Board, activity: Activity) -> list[dict[float, int]]:
    """Of each layer, from cycles a training sample to the fewest lanes, not more than it has, that do with them."""
    choices: list[dict[float, int]] = [{} for _ in spec.layers]
    numbers = {-(-n // lanes) for n in {layer.neurons for layer in spec.layers} for lanes in range(1, n + 1)}
    for groups in sorted(numbers, reverse=True):
        lanes = [min(layer.lanes, -(-layer.neurons // groups)) for layer in spec.layers]
        plan = NetworkPlan(_with_lanes(spec, lanes))
        for layer, samples, choice in zip(plan.layers, activity.layers, choices, strict=True):
            cycles = estimate_layer_cycles(layer, samples, board.target.single_port_weights).train
            choice.setdefault(cycles, layer.lanes)
    return choices


def _with_lanes(spec: NetworkSpec, lanes: Sequence[int]) -> NetworkSpec:
    changed = (replace(layer, lanes=count) for layer, count in zip(spec.layers, lanes, strict=True))
    return replace(spec, layers=tuple(changed))


def _with_neurons(spec: NetworkSpec, step: int) -> NetworkSpec:
    """So many of _STEPS in every layer, one at least, and not more lanes than that."""
    layers = tuple(layer.resized(max(1, layer.neurons * step // _STEPS)) for layer in spec.layers)
    return replace(spec, layers=layers)


def _fits(spec: NetworkSpec, board: Board) -> bool:
    used = estimate_resources(NetworkPlan(spec), board)
    return all(count <= getattr(board.capacity, resource) for resource, count in used.items())


def _changes(spec: NetworkSpec, other: NetworkSpec) -> str:
    """What the command line has to say to make one of the other."""
    if len(spec.layers) != len(other.layers):
        return f"--set 'layers={_inline([layer.to_table() for layer in other.layers])}'"
    changes = [
        f"--set layers.{number}.{field}={getattr(found, field)}"
        for number, (given, found) in enumerate(zip(spec.layers, other.layers, strict=True))
        for field in ("channels" if isinstance(given, ConvSpec) else "neurons", "lanes")
        if getattr(given, field) != getattr(found, field)
    ]
    return " ".join(changes)


def _inline(value: object) -> str:
    """As TOML has it in a line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}={_inline(entry)}' for name, entry in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value)
