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
            f"{layer.weight_snr:.1f}",
            f"{layer.unit:.4g}",
            f"{layer.clipped:.2f}",
            f"{layer.activation_snr:.1f}",
        )
    return table
