"""The comparison of speeds as the terminal shows it."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

__all__ = ["speed_table"]


def speed_table(report: dict[str, Any]) -> Table:
    """A row for everything that was measured, its name to the left."""
    # Everything fits into 80 columns, as far as it has to.
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("training", no_wrap=True)
    for title in ("samples/s", "min", "max", "model is", "learned\n[%]", "cores"):
        # One layer's figure below the other's where there are many layers.
        table.add_column(Text(title), justify="right", no_wrap=not title.startswith("learned"))
    for row in report["rows"]:
        ratio, learned, cores = row["model_ratio"], row["learned_fraction"], row["cpu[cores]"]
        cells = [
            row["name"],
            *(f"{row[key]:.0f}" for key in ("throughput[samples/s]", "min[samples/s]", "max[samples/s]")),
            "" if ratio is None else f"{ratio:.2f} x",
            "all" if learned is None else " ".join(f"{100 * share:.0f}" for share in learned),
            "" if cores is None else f"{cores:.2f}",
        ]
        table.add_row(*map(Text, cells))
    return table
