"""What an import did to a network, as the terminal shows it."""

from collections.abc import Sequence

from rich.table import Table

from locallearn.host.build_table import plain_table
from locallearn.host.quantise import LayerReport

__all__ = ["quantise_table"]


def quantise_table(layers: Sequence[LayerReport]) -> Table:
    """A row for each layer."""
    table = plain_table(
        "", "node", "weights", "weights\nSNR [dB]", "unit of\nactivations", "clipped\n[%]", "activations\nSNR [dB]"
    )
    for number, layer in enumerate(layers):
        table.add_row(
            f"layer {number}",
            layer.name,
            str(layer.weights),
            _decibels(layer.weight_snr),
            f"{layer.unit:.4g}",
            f"{layer.clipped:.2f}",
            _decibels(layer.activation_snr),
        )
    return table


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
