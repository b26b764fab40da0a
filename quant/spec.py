"""The description of a network: frozen, validated, TOML on disk.

Everything else (widths, depths, schedules, register map, golden model, RTL) is derived from it, see `plan.py`.
"""

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from locallearn.quant.checks import check_int, check_keys, check_number, check_whole
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_spec import (
    DECAY_STEPS,
    MAX_DECAY,
    MAX_SHIFT,
    ConvSpec,
    LayerSpec,
    MapShape,
    check_decay,
    check_share,
    decay_fraction,
)

__all__ = [
    "AugmentSpec",
    "ConvSpec",
    "InputSpec",
    "LayerSpec",
    "NetworkSpec",
    "TrainingSpec",
    "linear_decay",
    "load_spec",
    "preset_names",
]

# What the arithmetic and the packets can carry; everything inside these ranges is built and tested.
MAX_INPUTS = 1 << 16
MAX_LAYERS = 32
MAX_CLASSES = 256
MAX_SCORE_BITS = 31
"""Of a matrix that is not learned, without a sign: the compiled model adds them up in 32 bits."""
MAX_PROJECTION_BITS = 22
"""Of the scaled error: with an input of 8 bits and the noise, 32-bit arithmetic is exact in the compiled model."""


@dataclass(frozen=True)
class InputSpec:
    """What one sample is.

    size            how many numbers
    bits, fraction  their format. Pixels of 8 bits lose their low bits where `bits` < 8
    signed          128 is taken from every pixel first: a middle grey becomes 0
    shape           of an image: channels, rows, columns; `size` is their product. Convolutions need it
    """

    size: int
    bits: int = 8
    fraction: int = 8
    signed: bool = False
    shape: tuple[int, int, int] | None = None

    @property
    def format(self) -> QFormat:
        return QFormat(self.bits, self.fraction, self.signed)

    @property
    def zero(self) -> int:
        """The pixel that becomes 0."""
        return 128 if self.signed else 0

    @property
    def map(self) -> MapShape | None:
        """The image as convolutions take it: rows, columns, channels."""
        return self.shape and (self.shape[1], self.shape[2], self.shape[0])

    def check(self) -> None:
        """Raises SpecError, naming the field, for what is impossible."""
        if not isinstance(self.signed, bool):
            raise SpecError(f"input.signed = {self.signed!r}: must be true or false")
        if self.shape is not None:
            if len(self.shape) != 3:
                raise SpecError(f"input.shape = {list(self.shape)}: must be channels, rows and columns")
            for number, side in enumerate(self.shape):
                check_int(f"input.shape[{number}]", side, 1, MAX_INPUTS)
            if self.size != math.prod(self.shape):
                raise SpecError(
                    f"input.size = {self.size}: a shape of {'x'.join(map(str, self.shape))} is "
                    f"{math.prod(self.shape)} numbers; leave one of them out"
                )
        check_int("input.size", self.size, 1, MAX_INPUTS)
        # The constant that feeds the biases is 0.5 and must be a number of the format.
        check_int("input.bits", self.bits, 1 + self.signed, 8)
        self.format.check("input", range(1, 9), range(1, self.bits + 1 - self.signed))


@dataclass(frozen=True)
class AugmentSpec:
    """What the host does at random to every training image, anew each epoch; nothing by default.

    shift   pixels, uniform from -shift to shift in both directions; zeros come in at the edges
    flip    mirror left and right, every second image
    cutout  side of a square of zeros, its centre anywhere in the image, clipped at the edges
    drop    share of the numbers that become 0, each by its own chance, in steps of 1/256

    Zeros are what the network takes for one: black, or of signed inputs a middle grey.
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0
    drop: float = 0.0


@dataclass(frozen=True)
class TrainingSpec:
    """How the network learns.

    rate_shift   learning rate 2^-rate_shift, for layers that name none of their own; None takes 8, and more for
                 layers of more than 784 inputs
    decay        added to the shift, one entry an epoch; its length is the default number of epochs and its
                 last entry stays for epochs beyond it. Of an entry of 2.75 the shift of a fourth of the samples, drawn
                 at random, grows by 2, that of the others by 3; entries are rounded to 1/256. TOML can have
                 { epochs = 20, to = 0.02 } for a rate that falls linearly
    seed         of initial weights, classifiers, rounding noise, the order of samples and their augmentation
    augment      what is done to the images
    """

    rate_shift: int | None = None
    decay: tuple[float, ...] = (0, 0, 0, 0, 1, 1, 2, 3)
    seed: int = 1
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    @property
    def epochs(self) -> int:
        return len(self.decay)


def linear_decay(epochs: int, to: float) -> tuple[float, ...]:
    """The decay with which the learning rate falls linearly from 1 to `to` times the first one, epoch by epoch.

    An epoch has the rate of its middle. A rate r between 2^-n and 2^(1-n) is a decay of n - (2^n r - 1): so many
    samples of the smaller shift make it the mean.
    """
    decay = []
    for epoch in range(epochs):
        rate = 1 - (1 - to) * (epoch + 0.5) / epochs
        shift = math.ceil(-math.log2(rate))
        decay.append(round((shift + 1 - 2**shift * rate) * DECAY_STEPS) / DECAY_STEPS)
    return tuple(decay)


@dataclass(frozen=True)
class NetworkSpec:
    """One description of a network that learns by local errors.

    activation   unsigned format of what a layer passes on
    weight       signed format of the weights, biases included
    error_bits   fraction bits of the classifiers' errors; None takes 6, or more where there are so many classes
                 that equal scores would make no error at all
    noise_bits   random bits of the stochastic rounding
    early_exit   the chip can let unlabelled samples stop at any layer that is sure of them, see `NetworkPlan.exits`
    sum_scores   the last layer's answer is by its scores and those of the layer before it, added

    Raises SpecError, naming the field, where a value is impossible.
    """

    name: str
    classes: int
    input: InputSpec
    layers: tuple[LayerSpec | ConvSpec, ...]
    activation: QFormat = field(default=QFormat(8, 4))
    weight: QFormat = field(default=QFormat(12, 11, signed=True))
    error_bits: int | None = None
    noise_bits: int = 8
    early_exit: bool = False
    sum_scores: bool = False
    training: TrainingSpec = field(default_factory=TrainingSpec)

    def __post_init__(self) -> None:
        check_int("classes", self.classes, 2, MAX_CLASSES)
        self.input.check()
        self.activation.check("activation", range(1, 9), range(1, self.activation.bits + 1))
        self.weight.check("weight", range(2, 17), range(0, 17))
        if self.activation.signed or not self.weight.signed:
            raise SpecError(f"activation = {self.activation}, weight = {self.weight}: must be unsigned and signed")
        check_int("error_bits", self.error_fraction, 2, 8)
        check_int("noise_bits", self.noise_bits, 1, 16)
        if not self.layers:
            raise SpecError("layers: none given, at least one [[layers]] is needed")
        if len(self.layers) > MAX_LAYERS:
            raise SpecError(f"layers: {len(self.layers)} given, at most {MAX_LAYERS} are possible")
        for name in ("early_exit", "sum_scores"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise SpecError(f"{name} = {value!r}: must be true or false")
        if self.sum_scores and len(self.layers) == 1:
            raise SpecError("sum_scores = true: there is one layer, two are needed")
        for number, layer in enumerate(self.layers):
            where = f"layers[{number}]"
            layer.check(where)
            if isinstance(layer, ConvSpec):
                self._check_maps(number, layer)
        last = self.layers[-1].classifier.error
        for number, layer in enumerate(self.layers):
            if layer.classifier.error == "top" and last != "local":
                raise SpecError(
                    f"layers[{number}].classifier.error = 'top': the last layer's own must be 'local', not {last!r}"
                )
        if self.training.rate_shift is not None:
            check_int("training.rate_shift", self.training.rate_shift, 0, MAX_SHIFT)
        check_int("training.seed", self.training.seed, 0, (1 << 64) - 1)
        check_decay("training.decay", self.training.decay)
        for name in ("shift", "cutout"):
            check_int(f"training.augment.{name}", getattr(self.training.augment, name), 0, MAX_INPUTS)
        check_share("training.augment.drop", self.training.augment.drop)
        if not isinstance(self.training.augment.flip, bool):
            raise SpecError(f"training.augment.flip = {self.training.augment.flip!r}: must be true or false")
        self._check_shifts()

    def _check_maps(self, number: int, layer: ConvSpec) -> None:
        """A convolution needs a map that leaves something of it, and no more numbers than packets can carry."""
        where, shape = f"layers[{number}]", self.input_map(number)
        if shape is None:
            below = f"layers[{number - 1}] is dense" if number else "input.shape is not given"
            raise SpecError(f"{where}: a convolution needs rows and columns, but {below}")
        layer.check_map(where, shape)
        for what, size in (("an output", self.outputs(number)), ("a window", self.fan_in(number))):
            if size > MAX_INPUTS:
                raise SpecError(f"{where}: {what} of {size} numbers, at most {MAX_INPUTS} are possible")
        width = (self.features(number) * self.activation.max * sum(layer.classifier.matrix_weights)).bit_length()
        if width > MAX_SCORE_BITS:
            raise SpecError(
                f"{where}.classifier: scores of {width} bits, at most {MAX_SCORE_BITS} are possible; fewer bits or a "
                "lower resolution make them smaller"
            )

    def _check_shifts(self) -> None:
        """Requantise and update must shift right, and initial weights must not all round to 0."""
        for number, layer in enumerate(self.layers):
            fraction = self.input.fraction if number == 0 else self.activation.fraction
            if self.weight.fraction + fraction < self.activation.fraction:
                raise SpecError(
                    f"weight.fraction = {self.weight.fraction}: with inputs of {fraction} fraction bits layer "
                    f"{number} cannot make activations of {self.activation.fraction}; "
                    f"at least {self.activation.fraction - fraction} is needed"
                )
            shift = self.update_shift(number)
            if not 1 <= shift <= MAX_SHIFT:
                offset = shift - self.rate_shift(number)
                raise SpecError(
                    f"layers[{number}]: rate_shift = {self.rate_shift(number)} with these formats is an update "
                    f"shift of {shift}; rate_shift must be between {max(0, 1 - offset)} and "
                    f"{MAX_SHIFT - max(0, offset)}"
                )
            own = layer.classifier
            least = 1 - self.matrix_update_shift(number) + own.rate_shift
            if own.learns and own.rate_shift < least:
                raise SpecError(
                    f"layers[{number}].classifier.rate_shift = {own.rate_shift}: with a matrix of {own.format} and "
                    f"these formats at least {least} is needed"
                )
            width = self.projection_max(number).bit_length() + 1 + self.max_decay(number)
            if width > MAX_PROJECTION_BITS:
                raise SpecError(
                    f"layers[{number}].classifier: an error brought back to a neuron takes {width} bits, at most "
                    f"{MAX_PROJECTION_BITS} are possible; fewer feedback bits, error bits or decay make it smaller"
                )
            if layer.init_shift is not None and layer.init_shift > self.weight.fraction:
                raise SpecError(
                    f"layers[{number}].init_shift = {layer.init_shift}: below the weights' unit, at most "
                    f"{self.weight.fraction} is possible"
                )

    # -- numbers that more than one reader needs -------------------------------------------------------

    def decay(self, layer: int) -> tuple[float, ...]:
        """A layer's decay: its own, or the training section's."""
        own = self.layers[layer].decay
        return self.training.decay if own is None else own

    def decay_at(self, epoch: int) -> tuple[float, ...]:
        """What every layer's shift has grown by in `epoch`, counted from 0."""
        schedules = [self.decay(layer) for layer in range(len(self.layers))]
        entries = (schedule[min(epoch, len(schedule) - 1)] for schedule in schedules)
        return tuple(entry if isinstance(entry, int) else round(DECAY_STEPS * entry) / DECAY_STEPS for entry in entries)

    def max_decay(self, layer: int) -> int:
        """The largest entry of a layer's decay, rounded up: its scaled error has that many bits to spare."""
        return math.ceil(max(self.decay(layer)))

    @property
    def error_fraction(self) -> int:
        """Fraction bits of an error. Where all scores are equal it is 2^-ceil(log2(classes)), less is cut off."""
        return max(6, (self.classes - 1).bit_length()) if self.error_bits is None else self.error_bits

    def input_map(self, layer: int) -> MapShape | None:
        """The shape of a layer's input, where it is a map."""
        if layer == 0:
            return self.input.map
        below, shape = self.layers[layer - 1], self.input_map(layer - 1)
        return below.output(shape) if isinstance(below, ConvSpec) and shape is not None else None

    def inputs(self, layer: int) -> int:
        """Inputs of a layer, its bias not counted."""
        return self.input.size if layer == 0 else self.outputs(layer - 1)

    def outputs(self, layer: int) -> int:
        """What a layer passes on."""
        own = self.layers[layer]
        return math.prod(own.output(self._map(layer))) if isinstance(own, ConvSpec) else own.neurons

    def features(self, layer: int) -> int:
        """What a layer's classifier sees."""
        own = self.layers[layer]
        return math.prod(own.cells(self._map(layer))) if isinstance(own, ConvSpec) else own.neurons

    def fan_in(self, layer: int) -> int:
        """Weights of a neuron, its bias not counted."""
        own = self.layers[layer]
        return own.kernel**2 * self._map(layer)[2] if isinstance(own, ConvSpec) else self.inputs(layer)

    def cell_shift(self, layer: int) -> int:
        """The number of pixels that are averaged to one that a classifier sees, as a power of two, rounded up."""
        return (self.outputs(layer) // self.features(layer) - 1).bit_length()

    def _map(self, layer: int) -> MapShape:
        """The input of a convolution, which has one."""
        shape = self.input_map(layer)
        assert shape is not None
        return shape

    def input_format(self, layer: int) -> QFormat:
        """The format of a layer's inputs."""
        return self.input.format if layer == 0 else self.activation

    def rate_shift(self, layer: int) -> int:
        """The learning rate's shift before any decay: the layer's, the training section's, or by the fan-in.

        A step moves a neuron's sum by the rate times the sum of its squared inputs. With MNIST's 784 inputs, 2^-8
        is right; with CIFAR-10's 3,072, few of them zero, 2^-10 still silences whole layers and 2^-11 learns.
        """
        for given in (self.layers[layer].rate_shift, self.training.rate_shift):
            if given is not None:
                return given
        return 8 + max(0, round(1.5 * math.log2(self.fan_in(layer) / 784)))

    def update_shift(self, layer: int) -> int:
        """How far the product of input and scaled error is shifted right to weight units.

        delta W = 2^-rate d x, where d is taken as if K's entries were about 1, and scaled up by max_decay - decay. A
        pixel of a convolution's output has its share of the error that comes to its cell's average.
        """
        share = self.cell_shift(layer)
        fraction = self.input_format(layer).fraction + self.error_fraction - self.projected_in_halves(layer)
        gain = _gain(self.layers[layer].classifier.feedback_weights)
        return fraction + gain + share + self.rate_shift(layer) + self.max_decay(layer) - self.weight.fraction

    def error_sums_to_zero(self, layer: int) -> bool:
        """Whether the entries of the error that a layer learns from do: a softmax and a one-hot both sum to 1."""
        source = self._error_source(layer)
        return source.error == "local" and source.loss == "cross-entropy"

    def _error_source(self, layer: int) -> ClassifierSpec:
        """The classifier whose error the layer learns from, where it is not the label's."""
        own = self.layers[layer].classifier
        return self.layers[-1].classifier if own.error == "top" else own

    def projected_in_halves(self, layer: int) -> bool:
        """Whether half of what K brings back is a whole number, and is taken in its place, see `classifier`."""
        return self.error_sums_to_zero(layer) and not self.layers[layer].classifier.learns

    def error_max(self, layer: int) -> int:
        """The largest entry of the error that a layer learns from, or its largest negative: 1.0, or just below 2.0."""
        one = 1 << self.error_fraction
        return one if self._error_source(layer).loss == "cross-entropy" else 2 * one - 1

    def error_size_max(self, layer: int) -> int:
        """The largest size of an error, see `classifier.error_size`: 1.0, but any class can be wrong to a hinge."""
        return self.error_max(layer) * (self.classes if self._error_source(layer).loss == "squared-hinge" else 1)

    def projection_max(self, layer: int) -> int:
        """The largest error that K can bring back to a neuron, or its largest negative."""
        own = self.layers[layer].classifier
        if own.learns:
            # Entries of 4.0 at most, and all that a softmax takes from the label it gives to others.
            return 4 * (1 + self.error_sums_to_zero(layer)) * self.error_size_max(layer)
        return sum(own.feedback_weights) * self.error_size_max(layer)

    def matrix_update_shift(self, layer: int) -> int:
        """How far the product of activation and scaled error is shifted right to the units of a learned matrix."""
        own = self.layers[layer].classifier
        fraction = self.activation.fraction + self.error_fraction
        return fraction + own.rate_shift + self.max_decay(layer) - own.format.fraction

    def score_shift(self, layer: int) -> int:
        """The classifier's temperature: own, or such that random scores differ by about 3 in nats.

        Two scores of N random activations of about 1 differ by about sqrt(N) where M's entries are about 1; four
        units are a factor of two in probability, and the chip's scores are half of the classifier's.
        """
        spec = self.layers[layer]
        spread = math.log(2) / 4 * 2**self.activation.fraction * math.sqrt(self.features(layer))
        shift = max(0, round(math.log2(spread / 6))) if spec.score_shift is None else spec.score_shift
        return shift + _gain(spec.classifier.matrix_weights)

    def init_shift(self, layer: int) -> int:
        """Initial weights are uniform in +-2^-shift: own, or 1 / sqrt(fan-in) rounded up to a power of two.

        A convolution's are of about sqrt(6 / fan-in), which keeps the spread from layer to layer (He et al. 2015).
        """
        own = self.layers[layer]
        if own.init_shift is not None:
            return own.init_shift
        if isinstance(own, ConvSpec):
            return max(0, min(round(math.log2(self.fan_in(layer) / 6) / 2), self.weight.fraction))
        return min(int(math.log2(self.inputs(layer)) / 2), self.weight.fraction)

    def replaced(self, values: Mapping[str, Any]) -> "NetworkSpec":
        """This description with other values, one after the other, at dotted paths into its TOML.

        A value is what TOML would have there: `training.decay` a list, `weight` a whole table, `layers` all of
        them, `layers.0.lanes` one layer's, `layers.*.lanes` every layer's. None takes the default of a field that
        may be left out. Raises SpecError, naming the place, as for a file.
        """
        table = _to_table(self)
        for path, value in values.items():
            table = _with(table, path, path.split("."), value)
        return _from_table(table)

    # -- TOML ------------------------------------------------------------------------------------------

    def to_toml(self) -> str:
        """The description as TOML, fields at their defaults included where they have a value."""
        return tomli_w.dumps(_to_table(self))

    @staticmethod
    def from_toml(text: str, source: str = "specification") -> "NetworkSpec":
        """Read what `to_toml` writes. Raises SpecError for anything unknown, missing or of a wrong type."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"{source}: not TOML: {error}") from None
        try:
            return _from_table(table)
        except SpecError as error:
            raise SpecError(f"{source}: {error}") from None

    @property
    def fingerprint(self) -> int:
        """32 bits that differ between descriptions whose chips differ.

        Names, the seed, the order of the decay, what is frozen and the augmentation shape no hardware, so one chip
        serves all.
        """
        table = _to_table(self)
        table["training"] = {"max_decay": math.ceil(max(self.training.decay))}
        table["layers"] = [
            {
                "neurons": layer.neurons,
                "lanes": layer.lanes,
                "update": self.update_shift(number),
                "score": self.score_shift(number),
            }
            | ({} if layer.classifier.shape == ClassifierSpec().shape else {"classifier": layer.classifier.shape})
            | ({} if layer.decay is None else {"max_decay": math.ceil(max(layer.decay))})
            | ({"decay_fraction": True} if decay_fraction(self.decay(number)) else {})
            | ({} if layer.dropout == 0 else {"dropout": layer.dropout})
            | ({} if isinstance(layer, LayerSpec) else layer.window)
            for number, layer in enumerate(self.layers)
        ]
        table["error_bits"] = self.error_fraction
        del table["name"]
        text = json.dumps(table, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _gain(weights: tuple[int, ...]) -> int:
    """By what power of two, rounded down, an entry made with these weights is larger than 1 in the quadratic mean."""
    return max(0, sum(weight**2 for weight in weights).bit_length() - 1) // 2


def _to_table(spec: NetworkSpec) -> dict[str, Any]:
    table = {name: value for name, value in dataclasses.asdict(spec).items() if value is not None}
    for name in ("activation", "weight"):
        del table[name]["signed"]
    for name in ("early_exit", "sum_scores"):
        if not table[name]:
            del table[name]
    table["layers"] = [layer.to_table() for layer in spec.layers]
    table["training"] = {k: v for k, v in table["training"].items() if v is not None}
    table["training"]["decay"] = list(table["training"]["decay"])
    # What the usual input has in any case; a shape says the size.
    table["input"] = {k: v for k, v in table["input"].items() if v}
    if spec.input.shape is not None:
        table["input"] = table["input"] | {"shape": list(spec.input.shape)}
        del table["input"]["size"]
    return table


def _with(place: Any, path: str, keys: list[str], value: object) -> Any:
    """What stands at `place` with `value` at `keys` below it. Tables take any key: reading them finds the unknown."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(place, dict):
        return place | {key: _with(place.get(key, {}), path, rest, value)}
    if not isinstance(place, list):
        raise SpecError(f"{path}: there is no {key} in {place!r}")
    if key != "*" and key not in map(str, range(len(place))):
        raise SpecError(f"{path}: there is no {key} in a list of {len(place)}; * takes all, 0 the first")
    return [
        _with(entry, path, rest, value) if key in ("*", str(number)) else entry for number, entry in enumerate(place)
    ]


def _section(where: str, table: object, cls: type[Any], derived: Set[str] = frozenset()) -> dict[str, Any]:
    """A table of the class's fields; all without a default must be there but those that are `derived`."""
    if not isinstance(table, dict):
        raise SpecError(f"{where} = {table!r}: must be a table")
    fields = dataclasses.fields(cls)
    known = {f.name for f in fields}
    needed = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    check_keys(f"{where}." if where else "", table, known, needed - derived)
    return dict(table)


def _format(where: str, table: object, signed: bool) -> QFormat:
    if not isinstance(table, dict):
        raise SpecError(f"{where} = {table!r}: must be a table such as {{ bits = 8, fraction = 4 }}")
    check_keys(f"{where}.", table, {"bits", "fraction"}, {"bits", "fraction"})
    for key, value in table.items():
        check_whole(f"{where}.{key}", value)
    return QFormat(table["bits"], table["fraction"], signed)


def _decay(where: str, value: object) -> tuple[float, ...]:
    """A list as it is, or a rate that falls linearly: { epochs = 20, to = 0.02 }."""
    if isinstance(value, dict):
        check_keys(f"{where}.", value, {"epochs", "to"}, {"epochs", "to"})
        check_int(f"{where}.epochs", value["epochs"], 1, 10_000)
        check_number(f"{where}.to", value["to"], 2.0**-MAX_DECAY, 1)
        return linear_decay(value["epochs"], value["to"])
    if not isinstance(value, list):
        raise SpecError(
            f"{where} = {value!r}: must be a list, one shift an epoch, or a table such as {{ epochs = 20, to = 0.02 }}"
        )
    return tuple(value)


def _input(table: object) -> InputSpec:
    fields = _section("input", table, InputSpec, {"size"} if isinstance(table, dict) and "shape" in table else set())
    for key in ("size", "bits", "fraction"):
        if key in fields:
            check_whole(f"input.{key}", fields[key])
    if "shape" in fields:
        if not isinstance(fields["shape"], list):
            raise SpecError(f"input.shape = {fields['shape']!r}: must be a list of channels, rows and columns")
        shape = fields["shape"] = tuple(check_whole("input.shape", side) for side in fields["shape"])
        fields.setdefault("size", math.prod(shape))
    return InputSpec(**fields)


def _layer(where: str, table: object) -> LayerSpec | ConvSpec:
    kind = ConvSpec if isinstance(table, dict) and "channels" in table else LayerSpec
    fields = _section(where, table, kind)
    if fields.get("decay") is not None:
        fields["decay"] = _decay(f"{where}.decay", fields["decay"])
    if "classifier" in fields:
        where = f"{where}.classifier"
        fields["classifier"] = ClassifierSpec(**_section(where, fields["classifier"], ClassifierSpec))
    return kind(**fields)


def _from_table(table: dict[str, Any]) -> NetworkSpec:
    fields = _section("", table, NetworkSpec)
    if not isinstance(fields["name"], str):
        raise SpecError(f"name = {fields['name']!r}: must be a text")
    fields["input"] = _input(fields["input"])
    if not isinstance(fields["layers"], list):
        raise SpecError(f"layers = {fields['layers']!r}: must be a list of tables, [[layers]]")
    fields["layers"] = tuple(_layer(f"layers[{number}]", layer) for number, layer in enumerate(fields["layers"]))
    for name, signed in (("activation", False), ("weight", True)):
        if name in fields:
            fields[name] = _format(name, fields[name], signed)
    if "training" in fields:
        training = _section("training", fields["training"], TrainingSpec)
        if "decay" in training:
            training["decay"] = _decay("training.decay", training["decay"])
        if "augment" in training:
            training["augment"] = AugmentSpec(**_section("training.augment", training["augment"], AugmentSpec))
        fields["training"] = TrainingSpec(**training)
    return NetworkSpec(**fields)


def preset_names() -> list[str]:
    """The descriptions that come with the package."""
    folder = resources.files("locallearn.quant") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_spec(source: str | Path) -> NetworkSpec:
    """Read a preset by its name, or a TOML file. Raises SpecError where there is neither."""
    path = Path(source)
    if str(source) in preset_names():
        text = (resources.files("locallearn.quant") / "presets" / f"{source}.toml").read_text()
        return NetworkSpec.from_toml(text, f"preset {source}")
    if path.suffix != ".toml" and not path.exists():
        raise SpecError(f"{source}: neither a preset ({', '.join(preset_names())}) nor a .toml file")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{source}: cannot be read: {error}") from None
    return NetworkSpec.from_toml(text, str(source))
