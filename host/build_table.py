"""Boards and what was built for them, as the terminal shows it."""

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from locallearn.fpga.boards import Board
from locallearn.fpga.report import BuildReport

__all__ = ["boards_table", "build_table", "plain_table"]


def build_table(report: BuildReport) -> Table:
    """A row for each resource."""
    table = plain_table("resource", "used", "there is", "[%]")
    for name, use in report.resources.items():
        table.add_row(name, str(use.used), str(use.available), f"{100 * use.used / use.available:.1f}")
    return table


def boards_table(boards: Iterable[Board], fitting: Mapping[str, Sequence[str]]) -> Table:
    """A row for each board, with the presets that fit it."""
    table = plain_table("board", "lut", "dsp", "block\nram", "spram", "clock\n[MHz]", "link\n[Mbaud]")
    table.add_column("presets that fit")
    for board in boards:
        has = board.capacity
        counts = (str(count or "") for count in (has.lut, has.dsp, has.block_ram, has.spram))
        presets = ", ".join(fitting[board.name])
        table.add_row(board.name, *counts, f"{board.clock_mhz:g}", f"{board.baud / 1e6:g}", presets)
    return table


def plain_table(name: str, *numbers: str) -> Table:
    """A name and right-aligned numbers; titles are as they are, be it with brackets."""
    # Everything fits into 80 columns.
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, padding=0)
    table.add_column(name, no_wrap=True)
    for title in numbers:
        table.add_column(Text(title), justify="right", no_wrap=True)
    return table
