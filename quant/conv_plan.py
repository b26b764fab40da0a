"""What follows from the description of a convolutional layer, beyond what all layers have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.layer_spec import ConvSpec, MapShape

__all__ = ["MASK_WORD", "WAITING_WORDS", "ConvPlan"]

MASK_WORD = 16
"""Bits of a word of the masks: so few that the next one is found within a cycle."""

WAITING_WORDS = 8
"""Words with ones that wait to be walked over."""


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

    # -- the input's memory ----------------------------------------------------------------------------

    @property
    def row_bits(self) -> int:
        """Width of a row's number; of the input, as all of these."""
        return (self.input_map[0] - 1).bit_length()

    @property
    def column_bits(self) -> int:
        return (self.input_map[1] - 1).bit_length()

    @property
    def channel_bits(self) -> int:
        return (self.input_map[2] - 1).bit_length()

    @property
    def channel_word(self) -> int:
        """Channels of a pixel in a word of the mask that says which are not 0."""
        return min(MASK_WORD, 1 << self.channel_bits)

    @property
    def channel_words(self) -> int:
        """Words of a pixel."""
        return -(-self.input_map[2] // self.channel_word)

    @property
    def column_word(self) -> int:
        """Columns of a row in a word of the mask that says, channel by channel, which pixels are not 0."""
        return min(MASK_WORD, 1 << self.column_bits)

    @property
    def column_words(self) -> int:
        """Words of a row."""
        return -(-self.input_map[1] // self.column_word)

    # -- addresses: fields and their bits, lowest first -------------------------------------------------

    @property
    def value_address(self) -> dict[str, int]:
        """Of an input."""
        return {"channel": self.channel_bits, "column": self.column_bits, "row": self.row_bits}

    @property
    def pixel_address(self) -> dict[str, int]:
        """Of `channel_word` channels of a pixel."""
        return {"part": (self.channel_words - 1).bit_length(), "column": self.column_bits, "row": self.row_bits}

    @property
    def columns_address(self) -> dict[str, int]:
        """Of `column_word` columns of a channel's row."""
        return {"part": (self.column_words - 1).bit_length(), "row": self.row_bits, "channel": self.channel_bits}

    @property
    def error_address(self) -> dict[str, int]:
        """Of the scaled errors of a group's channels, by the classifier's cell."""
        return self._in_group(self.feature_map)

    @property
    def winner_address(self) -> dict[str, int]:
        """Of what a group's channels have in a pixel of the output."""
        return self._in_group(self.output_map)

    @property
    def word_fields(self) -> dict[str, int]:
        """Of a mask's word that waits for its ones to be found: where its first bit is, and what a one does."""
        places = (self.convolved_map[1] - 1).bit_length()
        sizes = {
            "base": self.weight_rows,
            "tap": self.conv.kernel,
            "place": self.convolved_map[0],
            "group": self.groups,
        }
        return {
            "row": self.row_bits,
            "column": max(self.column_bits, places),
            "channel": self.channel_bits,
            **{name: (size - 1).bit_length() for name, size in sizes.items()},
            "constant": 1,
            "learn": 1,
            "update": 1,
        }

    def _in_group(self, shape: MapShape) -> dict[str, int]:
        sizes = {"column": shape[1], "row": shape[0], "group": self.groups}
        return {name: (size - 1).bit_length() for name, size in sizes.items()}

    # -- places and winners ---------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """Of the convolution, before pooling."""
        return self.convolved_map[0] * self.convolved_map[1]

    @property
    def window_numbers(self) -> int:
        (rows, columns, channels), (down, across, _) = self.input_map, self.convolved_map
        return self.places + channels * self._taps(rows, down) * self._taps(columns, across)

    def _taps(self, side: int, places: int) -> int:
        """What the kernel meets at all places of a row or column, the border not counted."""
        conv = self.conv
        first = (place * conv.stride - conv.border for place in range(places))
        return sum(min(start + conv.kernel, side) - max(start, 0) for start in first)

    @property
    def winner_bits(self) -> int:
        """Width of which place of a pool won, and above it whether the activation is not 0."""
        return 1 + 2 * (self.conv.pool - 1)

    # -- the lanes -------------------------------------------------------------------------------------

    @property
    def error_group(self) -> int:
        """All features: a place's error is wanted for every weight."""
        return self.features

    @property
    def error_groups(self) -> int:
        return 1

    @property
    def sum_bits(self) -> int:
        """Signed width of a lane's accumulator, which has an output's sum, or a weight's from all places."""
        form = self.input_format
        largest = max(form.max, -form.min) << (self.scaled_error_width - 1)
        return max(self.accumulator_bits, (self.places * largest).bit_length() + 1)

    # -- the order of the passes -----------------------------------------------------------------------

    @property
    def column_masks(self) -> tuple[tuple[int, ...], ...]:
        """By the kernel's column, then by word of a row: the input's columns that meet it in any window."""
        conv, (_, places, _) = self.conv, self.convolved_map
        return tuple(
            tuple(
                sum(
                    1 << bit
                    for bit in range(self.column_word)
                    if _meets(word * self.column_word + bit + conv.border - tap, conv.stride, places)
                    and word * self.column_word + bit < self.input_map[1]
                )
                for word in range(self.column_words)
            )
            for tap in range(conv.kernel)
        )

    def initial_matrix(self) -> NDArray[np.int32]:
        """Zeros: what a cell has to say is known only when the layer has learned to look."""
        return np.zeros((self.features, self.classes), np.int32)


def _meets(offset: int, stride: int, places: int) -> bool:
    """Whether a window that begins so far before an input is one of the places."""
    return offset % stride == 0 and 0 <= offset // stride < places
