"""Estimates as the terminal shows them."""

from collections.abc import Iterable

from rich.table import Table

from locallearn.fpga.estimate import Estimate
from locallearn.host.build_table import plain_table

__all__ = ["choice_table", "resource_table", "speed_table"]

_TITLES = {"lut": "lut", "ff": "ff", "dsp": "dsp", "block_ram": "block\nram", "spram": "spram"}


def resource_table(estimate: Estimate) -> Table:
    """A row for each layer, for all of the chip, and for what there is."""
    names = list(estimate.resources)
    table = plain_table("", "neurons", "lanes", "cycles", *(_TITLES[name] for name in names))
    cycles = estimate.expected.cycles
    layers = zip(estimate.spec.layers, cycles.layers, estimate.layers, strict=True)
    for number, (layer, speed, used) in enumerate(layers):
        counts = (str(used.get(name, 0)) for name in names)
        table.add_row(f"layer {number}", str(layer.neurons), str(layer.lanes), f"{speed.train:.0f}", *counts)
    uses = estimate.resources.values()
    table.add_row("chip", "", "", f"{cycles.train:.0f}", *(str(use.used) for use in uses))
    table.add_row("there is", "", "", "", *(str(use.available) for use in uses))
    table.add_row("[%]", "", "", "", *(f"{100 * use.used / use.available:.0f}" for use in uses))
    return table


def speed_table(estimate: Estimate) -> Table:
    """A row for what is expected and for the worst case, each training and inferring."""
    table = plain_table("samples", "cycles", "chip\n[samples/s]", "link\n[samples/s]")
    for name, speed in (("expected", estimate.expected), ("dense", estimate.dense)):
        cycles = speed.cycles
        for what, count, rate in (("train", cycles.train, speed.train), ("infer", cycles.infer, speed.infer)):
            table.add_row(f"{name}, {what}", f"{count:.0f}", f"{rate:.0f}", f"{speed.link:.0f}")
    return table


def choice_table(estimates: Iterable[Estimate]) -> Table:
    """A row for each board: how much of it is taken, and the speed."""
    resources = [title + "\n[%]" for title in _TITLES.values()]
    table = plain_table("board", "fits", *resources, "clock\n[MHz]", "train\n[samples/s]", "link\n[samples/s]")
    for estimate in estimates:
        shares = []
        for name in _TITLES:
            use = estimate.resources.get(name)
            shares.append(f"{100 * use.used / use.available:.0f}" if use else "")
        rates = (estimate.clock_mhz, estimate.expected.train, estimate.expected.link)
        table.add_row(estimate.board.name, _verdict(estimate), *shares, *(f"{rate:.0f}" for rate in rates))
    return table


def _verdict(estimate: Estimate) -> str:
    return "yes" if estimate.fits else "no" if estimate.over else "perhaps"
