"""The description of a layer with its own local classifier, dense or convolutional."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from locallearn.quant.checks import check_choice, check_int, check_number
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.errors import SpecError

__all__ = [
    "DECAY_STEPS",
    "MAX_SHIFT",
    "ConvSpec",
    "LayerSpec",
    "MapShape",
    "check_decay",
    "check_share",
    "decay_bits",
    "decay_fraction",
]

# What the arithmetic can carry; everything inside these ranges is built and tested.
MAX_NEURONS = 1 << 12
MAX_KERNEL = 5
MAX_DECAY = 8
MAX_SHIFT = 40

_DECAY_FRACTION = 8
DECAY_STEPS = 1 << _DECAY_FRACTION
"""A decay is a multiple of 1 / DECAY_STEPS."""

MapShape = tuple[int, int, int]
"""Rows, columns and channels of a map. Its numbers flow row by row, pixel by pixel, a pixel's channels together."""


def check_share(what: str, value: object) -> None:
    """Raises SpecError unless it is a number from 0 to below 1."""
    check_number(what, value, 0, 1, below=True)


def check_decay(what: str, decay: tuple[float, ...]) -> None:
    """Raises SpecError unless it is what a learning rate's shift can grow by, epoch by epoch."""
    if not decay:
        raise SpecError(f"{what}: empty, one entry an epoch is needed, such as [0, 0, 1, 2]")
    for epoch, shift in enumerate(decay):
        check_number(f"{what}[{epoch}]", shift, 0, MAX_DECAY)


def decay_fraction(decay: tuple[float, ...]) -> int:
    """Fraction bits that such entries need: none where all are whole."""
    return 0 if all(entry == int(entry) for entry in decay) else _DECAY_FRACTION


def decay_bits(decay: tuple[float, ...]) -> int:
    """Width of a register for them."""
    return max(1, (math.ceil(max(decay)) << decay_fraction(decay)).bit_length())


@dataclass(frozen=True)
class LayerSpec:
    """A dense layer with its own local classifier.

    neurons      outputs of the layer
    lanes        multipliers working side by side, one neuron each: neurons / lanes passes a sample
    rate_shift   learning rate 2^-rate_shift; None takes the training section's
    score_shift  the classifier's temperature: score differences are taken in units of 2^score_shift, more where the
                 matrix has larger entries than +-1; None makes the scores of random activations spread over a few
                 units, whatever the layer's width
    init_shift   initial weights are uniform in +-2^-init_shift; None takes it from the fan-in
    classifier   what the layer learns from
    dropout      chance of every neuron to be left out of a training sample, in steps of 1/256: it passes on nothing,
                 adds nothing to scores and learns nothing. Without labels all neurons work, and nothing is rescaled
    decay        as the training section's, which it takes the place of in this layer
    frozen       no. weights: of the layer only its classifier learns, which must be one that does; of a decay with a
                 fraction one rate then stays, as what draws them stands still. all: nothing of it learns. It passes on
                 and answers as ever, and any chip of the network can do it
    """

    neurons: int
    lanes: int = 1
    rate_shift: int | None = None
    score_shift: int | None = None
    init_shift: int | None = None
    classifier: ClassifierSpec = field(default_factory=ClassifierSpec)
    dropout: float = 0.0
    decay: tuple[float, ...] | None = None
    frozen: str = "no"

    def resized(self, neurons: int) -> "LayerSpec":
        """With so many neurons, and no more lanes than that."""
        return dataclasses.replace(self, neurons=neurons, lanes=min(self.lanes, neurons))

    def check(self, where: str) -> None:
        """Raises SpecError, naming the field below `where`, for a value that is impossible in any network."""
        check_int(f"{where}.neurons", self.neurons, 1, MAX_NEURONS)
        check_share(f"{where}.dropout", self.dropout)
        _check_common(self, where)

    def to_table(self) -> dict[str, Any]:
        """As TOML has it. What is not asked for is left out: it would hide what matters."""
        table = _to_table(self)
        if not self.dropout:
            del table["dropout"]
        return table


@dataclass(frozen=True)
class ConvSpec:
    """A convolution, ReLU and perhaps max pooling, with its own local classifier.

    channels     of the output
    kernel       rows and columns of the window
    stride       pixels that the window moves by, 1 or 2
    padding      zeros around the input, fewer than `kernel`; None is half of the kernel: an odd one keeps the size
    pool         1: none. 2: of 2 x 2 pixels the largest goes on, and learns; an odd row or column at the end falls away
    resolution   the classifier sees the averages over resolution x resolution cells of the output; 0: all its pixels
    lanes        multipliers working side by side, one channel each
    rate_shift, score_shift, init_shift, classifier, decay, frozen
                 as those of a dense layer. Each pixel of a cell has its share of the error that comes back to it
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    pool: int = 1
    resolution: int = 4
    lanes: int = 1
    rate_shift: int | None = None
    score_shift: int | None = None
    init_shift: int | None = None
    classifier: ClassifierSpec = field(default_factory=ClassifierSpec)
    decay: tuple[float, ...] | None = None
    frozen: str = "no"

    @property
    def neurons(self) -> int:
        """All with weights of their own: a channel is one that looks at every place."""
        return self.channels

    @property
    def dropout(self) -> float:
        """None."""
        return 0.0

    @property
    def border(self) -> int:
        """Zeros around the input."""
        return self.kernel // 2 if self.padding is None else self.padding

    def resized(self, channels: int) -> "ConvSpec":
        """With so many channels, and no more lanes than that."""
        return dataclasses.replace(self, channels=channels, lanes=min(self.lanes, channels))

    def check(self, where: str) -> None:
        """Raises SpecError, naming the field below `where`, for a value that is impossible in any network."""
        check_int(f"{where}.channels", self.channels, 1, MAX_NEURONS)
        check_int(f"{where}.kernel", self.kernel, 1, MAX_KERNEL)
        check_int(f"{where}.stride", self.stride, 1, 2)
        check_int(f"{where}.padding", self.border, 0, self.kernel - 1)
        check_int(f"{where}.pool", self.pool, 1, 2)
        check_int(f"{where}.resolution", self.resolution, 0, 256)
        _check_common(self, where)

    def check_map(self, where: str, shape: MapShape) -> None:
        """Raises SpecError where nothing is left of an input of this shape, or it cannot be divided into the cells."""
        rows, columns, _ = self.output(shape)
        if min(rows, columns) < 1:
            raise SpecError(
                f"{where}: nothing is left of {shape[0]}x{shape[1]} pixels by a kernel of {self.kernel}, stride "
                f"{self.stride}, padding {self.border} and pool {self.pool}"
            )
        if self.resolution and (rows % self.resolution or columns % self.resolution):
            fits = [str(n) for n in range(1, min(rows, columns) + 1) if rows % n == 0 and columns % n == 0]
            raise SpecError(
                f"{where}.resolution = {self.resolution}: cannot divide an output of {rows}x{columns} pixels; possible "
                f"are {', '.join(fits)}, or 0 for all pixels"
            )

    def output(self, shape: MapShape) -> MapShape:
        """What becomes of an input of this shape."""
        rows, columns = (((side + 2 * self.border - self.kernel) // self.stride + 1) // self.pool for side in shape[:2])
        return rows, columns, self.channels

    def cells(self, shape: MapShape) -> MapShape:
        """What the classifier sees of it."""
        return (self.resolution, self.resolution, self.channels) if self.resolution else self.output(shape)

    @property
    def window(self) -> dict[str, int]:
        """What makes its chip another than that of a dense layer of so many neurons."""
        names = ("kernel", "stride", "border", "pool", "resolution")
        return {name: getattr(self, name) for name in names}

    def to_table(self) -> dict[str, Any]:
        """As TOML has it. What is not asked for is left out."""
        return _to_table(self)


def _check_common(layer: LayerSpec | ConvSpec, where: str) -> None:
    check_int(f"{where}.lanes", layer.lanes, 1, layer.neurons)
    for name, high in (("rate_shift", MAX_SHIFT), ("score_shift", 16), ("init_shift", 16)):
        value = getattr(layer, name)
        if value is not None:
            check_int(f"{where}.{name}", value, 0, high)
    layer.classifier.check(f"{where}.classifier")
    if layer.decay is not None:
        check_decay(f"{where}.decay", layer.decay)
    check_choice(f"{where}.frozen", layer.frozen, ("no", "weights", "all"))
    if layer.frozen == "weights" and not layer.classifier.learns:
        raise SpecError(f"{where}.frozen = 'weights': its classifier does not learn, nothing would; take 'all'")


def _to_table(layer: LayerSpec | ConvSpec) -> dict[str, Any]:
    table = {name: value for name, value in dataclasses.asdict(layer).items() if value is not None}
    table["classifier"] = {name: value for name, value in table["classifier"].items() if value is not None}
    if layer.classifier == ClassifierSpec():
        del table["classifier"]
    if layer.decay is not None:
        table["decay"] = list(layer.decay)
    if layer.frozen == "no":
        del table["frozen"]
    return table
