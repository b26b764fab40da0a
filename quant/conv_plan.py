"""What follows from the description of a convolutional layer, beyond what all layers have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.layer_spec import ConvSpec, MapShape

__all__ = ["ConvPlan"]


@dataclass(frozen=True)
class ConvPlan(LayerPlan):
    """The derived numbers of a convolutional layer `index`. Shapes are rows, columns, channels."""

    @property
    def conv(self) -> ConvSpec:
        spec = self.spec.layers[self.index]
        assert isinstance(spec, ConvSpec)
        return spec

    @property
    def input_map(self) -> MapShape:
        shape = self.spec.input_map(self.index)
        assert shape is not None
        return shape

    @property
    def output_map(self) -> MapShape:
        return self.conv.output(self.input_map)

    @property
    def convolved_map(self) -> MapShape:
        """Before pooling, without what pooling leaves out."""
        rows, columns, channels = self.output_map
        return rows * self.conv.pool, columns * self.conv.pool, channels

    @property
    def feature_map(self) -> MapShape:
        """What the classifier sees: cells of the output."""
        return self.conv.cells(self.input_map)

    @property
    def cell(self) -> tuple[int, int]:
        """Rows and columns of the output that make one cell."""
        rows, columns, _ = self.output_map
        down, across, _ = self.feature_map
        return rows // down, columns // across

    @property
    def cell_shift(self) -> int:
        """A cell's sum is shifted right by so much to be its average, or somewhat less where no power of two fits."""
        return self.spec.cell_shift(self.index)

    def initial_matrix(self) -> NDArray[np.int32]:
        """Zeros: what a cell has to say is known only when the layer has learned to look."""
        return np.zeros((self.features, self.classes), np.int32)
