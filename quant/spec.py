"""The description of a network: frozen, validated, TOML on disk.

Everything else (widths, depths, schedules, register map, golden model, RTL) is derived from it, see `plan.py`.
"""

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from locallearn.quant.checks import check_int, check_keys, check_whole
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat

__all__ = [
    "AugmentSpec",
    "InputSpec",
    "LayerSpec",
    "NetworkSpec",
    "TrainingSpec",
    "load_spec",
    "preset_names",
]

# What the arithmetic and the packets can carry; everything inside these ranges is built and tested.
MAX_INPUTS = 1 << 16
MAX_NEURONS = 1 << 12
MAX_LAYERS = 32
MAX_CLASSES = 256
MAX_DECAY = 8
MAX_SHIFT = 40
MAX_PROJECTION_BITS = 22
"""Of the scaled error: with an input of 8 bits and the noise, 32-bit arithmetic is exact in the compiled model."""


def _check_share(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise SpecError(f"{what} = {value!r}: must be a number from 0 to below 1")


def _check_decay(what: str, decay: tuple[int, ...]) -> None:
    if not decay:
        raise SpecError(f"{what}: empty, one entry an epoch is needed, such as [0, 0, 1, 2]")
    for epoch, shift in enumerate(decay):
        check_int(f"{what}[{epoch}]", shift, 0, MAX_DECAY)


@dataclass(frozen=True)
class InputSpec:
    """What one sample is: `size` unsigned numbers. Pixels of 8 bits lose their low bits where `bits` < 8."""

    size: int
    bits: int = 8
    fraction: int = 8

    @property
    def format(self) -> QFormat:
        return QFormat(self.bits, self.fraction)


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
    """

    neurons: int
    lanes: int = 1
    rate_shift: int | None = None
    score_shift: int | None = None
    init_shift: int | None = None
    classifier: ClassifierSpec = field(default_factory=ClassifierSpec)
    dropout: float = 0.0
    decay: tuple[int, ...] | None = None

    def to_table(self) -> dict[str, Any]:
        """As TOML has it. The usual classifier and no dropout are left out: they would hide what matters."""
        table = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        table["classifier"] = {name: value for name, value in table["classifier"].items() if value is not None}
        if self.classifier == ClassifierSpec():
            del table["classifier"]
        if not self.dropout:
            del table["dropout"]
        if self.decay is not None:
            table["decay"] = list(self.decay)
        return table


@dataclass(frozen=True)
class AugmentSpec:
    """What the host does at random to every training image, anew each epoch; nothing by default.

    shift   pixels, uniform from -shift to shift in both directions; zeros come in at the edges
    flip    mirror left and right, every second image
    cutout  side of a square of zeros, its centre anywhere in the image, clipped at the edges
    drop    share of the numbers that become 0, each by its own chance, in steps of 1/256
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
                 last entry stays for epochs beyond it
    seed         of initial weights, classifiers, rounding noise, the order of samples and their augmentation
    augment      what is done to the images
    """

    rate_shift: int | None = None
    decay: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 2, 3)
    seed: int = 1
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    @property
    def epochs(self) -> int:
        return len(self.decay)


@dataclass(frozen=True)
class NetworkSpec:
    """One description of a network that learns by local errors.

    activation   unsigned format of what a layer passes on
    weight       signed format of the weights, biases included
    error_bits   fraction bits of the classifiers' errors; None takes 6, or more where there are so many classes
                 that equal scores would make no error at all
    noise_bits   random bits of the stochastic rounding
    early_exit   the chip can let unlabelled samples stop at any layer that is sure of them, see `NetworkPlan.exits`

    Raises SpecError, naming the field, where a value is impossible.
    """

    name: str
    classes: int
    input: InputSpec
    layers: tuple[LayerSpec, ...]
    activation: QFormat = field(default=QFormat(8, 4))
    weight: QFormat = field(default=QFormat(12, 11, signed=True))
    error_bits: int | None = None
    noise_bits: int = 8
    early_exit: bool = False
    training: TrainingSpec = field(default_factory=TrainingSpec)

    def __post_init__(self) -> None:
        check_int("classes", self.classes, 2, MAX_CLASSES)
        check_int("input.size", self.input.size, 1, MAX_INPUTS)
        # The constant that feeds the biases is 0.5 and must be a number of the format.
        self.input.format.check("input", range(1, 9), range(1, self.input.bits + 1))
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
        if not isinstance(self.early_exit, bool):
            raise SpecError(f"early_exit = {self.early_exit!r}: must be true or false")
        for number, layer in enumerate(self.layers):
            where = f"layers[{number}]"
            check_int(f"{where}.neurons", layer.neurons, 1, MAX_NEURONS)
            check_int(f"{where}.lanes", layer.lanes, 1, layer.neurons)
            for name, high in (("rate_shift", MAX_SHIFT), ("score_shift", 16), ("init_shift", 16)):
                value = getattr(layer, name)
                if value is not None:
                    check_int(f"{where}.{name}", value, 0, high)
            layer.classifier.check(f"{where}.classifier")
            _check_share(f"{where}.dropout", layer.dropout)
            if layer.decay is not None:
                _check_decay(f"{where}.decay", layer.decay)
        last = self.layers[-1].classifier.error
        for number, layer in enumerate(self.layers):
            if layer.classifier.error == "top" and last != "local":
                raise SpecError(
                    f"layers[{number}].classifier.error = 'top': the last layer's own must be 'local', not {last!r}"
                )
        if self.training.rate_shift is not None:
            check_int("training.rate_shift", self.training.rate_shift, 0, MAX_SHIFT)
        check_int("training.seed", self.training.seed, 0, (1 << 64) - 1)
        _check_decay("training.decay", self.training.decay)
        for name in ("shift", "cutout"):
            check_int(f"training.augment.{name}", getattr(self.training.augment, name), 0, MAX_INPUTS)
        _check_share("training.augment.drop", self.training.augment.drop)
        if not isinstance(self.training.augment.flip, bool):
            raise SpecError(f"training.augment.flip = {self.training.augment.flip!r}: must be true or false")
        self._check_shifts()

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

    def decay(self, layer: int) -> tuple[int, ...]:
        """A layer's decay: its own, or the training section's."""
        own = self.layers[layer].decay
        return self.training.decay if own is None else own

    def decay_at(self, epoch: int) -> tuple[int, ...]:
        """What every layer's shift has grown by in `epoch`, counted from 0."""
        schedules = [self.decay(layer) for layer in range(len(self.layers))]
        return tuple(schedule[min(epoch, len(schedule) - 1)] for schedule in schedules)

    def max_decay(self, layer: int) -> int:
        """The largest entry of a layer's decay: its scaled error has that many bits to spare."""
        return max(self.decay(layer))

    @property
    def error_fraction(self) -> int:
        """Fraction bits of an error. Where all scores are equal it is 2^-ceil(log2(classes)), less is cut off."""
        return max(6, (self.classes - 1).bit_length()) if self.error_bits is None else self.error_bits

    def inputs(self, layer: int) -> int:
        """Inputs of a layer, its bias not counted."""
        return self.input.size if layer == 0 else self.layers[layer - 1].neurons

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
        return 8 + max(0, round(1.5 * math.log2(self.inputs(layer) / 784)))

    def update_shift(self, layer: int) -> int:
        """How far the product of input and scaled error is shifted right to weight units.

        delta W = 2^-rate d x, where d is taken as if K's entries were about 1, and scaled up by max_decay - decay.
        """
        fraction = self.input_format(layer).fraction + self.error_fraction - self.projected_in_halves(layer)
        gain = _gain(self.layers[layer].classifier.feedback_weights)
        return fraction + gain + self.rate_shift(layer) + self.max_decay(layer) - self.weight.fraction

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
        spread = math.log(2) / 4 * 2**self.activation.fraction * math.sqrt(spec.neurons)
        shift = max(0, round(math.log2(spread / 6))) if spec.score_shift is None else spec.score_shift
        return shift + _gain(spec.classifier.matrix_weights)

    def init_shift(self, layer: int) -> int:
        """Initial weights are uniform in +-2^-shift: own, or 1 / sqrt(fan-in) rounded up to a power of two."""
        own = self.layers[layer].init_shift
        if own is not None:
            return own
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

        Names, the seed, the order of the decay and the augmentation shape no hardware, so one chip serves all.
        """
        table = _to_table(self)
        table["training"] = {"max_decay": max(self.training.decay)}
        table["layers"] = [
            {
                "neurons": layer.neurons,
                "lanes": layer.lanes,
                "update": self.update_shift(number),
                "score": self.score_shift(number),
            }
            | ({} if layer.classifier.shape == ClassifierSpec().shape else {"classifier": layer.classifier.shape})
            | ({} if layer.decay is None else {"max_decay": max(layer.decay)})
            | ({} if layer.dropout == 0 else {"dropout": layer.dropout})
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
    if not spec.early_exit:
        del table["early_exit"]
    table["layers"] = [layer.to_table() for layer in spec.layers]
    table["training"] = {k: v for k, v in table["training"].items() if v is not None}
    table["training"]["decay"] = list(table["training"]["decay"])
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


def _section(where: str, table: object, cls: type[Any]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise SpecError(f"{where} = {table!r}: must be a table")
    fields = dataclasses.fields(cls)
    known = {f.name for f in fields}
    needed = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    check_keys(f"{where}." if where else "", table, known, needed)
    return dict(table)


def _format(where: str, table: object, signed: bool) -> QFormat:
    if not isinstance(table, dict):
        raise SpecError(f"{where} = {table!r}: must be a table such as {{ bits = 8, fraction = 4 }}")
    check_keys(f"{where}.", table, {"bits", "fraction"}, {"bits", "fraction"})
    for key, value in table.items():
        check_whole(f"{where}.{key}", value)
    return QFormat(table["bits"], table["fraction"], signed)


def _decay(where: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{where} = {value!r}: must be a list, one shift an epoch")
    return tuple(value)


def _layer(where: str, table: object) -> LayerSpec:
    fields = _section(where, table, LayerSpec)
    if fields.get("decay") is not None:
        fields["decay"] = _decay(f"{where}.decay", fields["decay"])
    if "classifier" in fields:
        where = f"{where}.classifier"
        fields["classifier"] = ClassifierSpec(**_section(where, fields["classifier"], ClassifierSpec))
    return LayerSpec(**fields)


def _from_table(table: dict[str, Any]) -> NetworkSpec:
    fields = _section("", table, NetworkSpec)
    if not isinstance(fields["name"], str):
        raise SpecError(f"name = {fields['name']!r}: must be a text")
    inputs = _section("input", fields["input"], InputSpec)
    for key, value in inputs.items():
        check_whole(f"input.{key}", value)
    fields["input"] = InputSpec(**inputs)
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
