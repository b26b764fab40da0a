"""Will it fit, and how fast: a chip on a board, before it is synthesised."""

from dataclasses import asdict, dataclass
from typing import Any

from locallearn.fpga.boards import Board
from locallearn.fpga.estimate_activity import Activity, dense, expected
from locallearn.fpga.estimate_cycles import ChipCycles, estimate_cycles
from locallearn.fpga.estimate_resources import Resources, estimate_layer_resources, estimate_resources
from locallearn.fpga.nextpnr import Use
from locallearn.quant.frames import LINE_BYTES
from locallearn.quant.packets import result_size
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["LOGIC_ERROR", "Estimate", "Speed", "estimate"]

_BITS_A_BYTE = 10
"""On a serial port."""

LOGIC_ERROR = 0.2
"""Of LUTs and flip-flops, as a share; multipliers and memories have none."""


@dataclass(frozen=True)
class Speed:
    """How fast samples go.

    activity  of the samples
    cycles    of the chip
    train, infer
              samples a second that the chip's clock allows
    link      samples a second that the serial port allows, whose two directions work side by side
    """

    activity: Activity
    cycles: ChipCycles
    train: float
    infer: float
    link: float

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "activity": {
                "source": self.activity.source,
                "bytes": round(self.activity.bytes, 1),
                "layers": [_rounded(asdict(layer), 4) for layer in self.activity.layers],
            },
            "estimate_layer_cycles": [_rounded(asdict(layer), 1) for layer in self.cycles.layers],
            "cycles_per_sample": {"train": round(self.cycles.train, 1), "infer": round(self.cycles.infer, 1)},
            "throughput[samples/s]": {
                "train": round(self.train),
                "infer": round(self.infer),
                "link": round(self.link),
            },
        }


@dataclass(frozen=True)
class Estimate:
    """A chip on a board.

    clock_mhz  of the chip
    layers     what each layer takes of the part
    resources  what is taken of it in all, and what there is
    expected   speed with the samples that are expected
    dense      speed with the worst there are
    """

    spec: NetworkSpec
    board: Board
    clock_mhz: float
    layers: tuple[Resources, ...]
    resources: dict[str, Use]
    expected: Speed
    dense: Speed

    @property
    def fits(self) -> bool:
        """As far as can be told: see `over`."""
        return all(use.used <= use.available for use in self.resources.values())

    @property
    def over(self) -> dict[str, Use]:
        """The resources that the part has too little of, whatever the estimate's error."""
        certain = {name: use.used / (1 + LOGIC_ERROR * (name in ("lut", "ff"))) for name, use in self.resources.items()}
        return {name: use for name, use in self.resources.items() if certain[name] > use.available}

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "spec": self.spec.name,
            "fingerprint": f"{self.spec.fingerprint:08x}",
            "board": self.board.name,
            "part": self.board.part,
            "fits": self.fits,
            "fclk[mhz]": self.clock_mhz,
            "estimate_layer_resources": list(self.layers),
            "resources": {name: asdict(use) for name, use in self.resources.items()},
            "expected": self.expected.figures(),
            "dense": self.dense.figures(),
        }


def _rounded(figures: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in figures.items()}


def estimate(
    spec: NetworkSpec, board: Board, clock_mhz: float | None = None, activity: Activity | None = None
) -> Estimate:
    """The chip of `spec` on `board`.

    clock_mhz  of the chip; the board's own where it is None
    activity   of the samples; `expected` where it is None
    """
    plan = NetworkPlan(spec)
    clock = clock_mhz or board.clock_mhz

    def speed(activity: Activity) -> Speed:
        cycles = estimate_cycles(plan, activity, board.target.single_port_weights)
        train, infer = (clock * 1e6 / count for count in (cycles.train, cycles.infer))
        sample = LINE_BYTES * max(activity.bytes, result_size(plan))
        return Speed(activity, cycles, train, infer, board.baud / _BITS_A_BYTE / sample)

    used = estimate_resources(plan, board)
    return Estimate(
        spec,
        board,
        clock,
        tuple(estimate_layer_resources(layer, board.target) for layer in plan.layers),
        {name: Use(used[name], there) for name, there in asdict(board.capacity).items() if name in used},
        speed(activity or expected(plan)),
        speed(dense(plan)),
    )
