"""The simulated chip against the golden model on networks of all kinds: everything that either shows or keeps."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from locallearn.host.device import ChipDevice
from locallearn.host.link import Link
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat
from locallearn.quant.network import GoldenNetwork, LayerTrace, quantise_pixels
from locallearn.quant.registers import Kind, split_events
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.linked import LinkedChip
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.compare import assert_same
from tests.strategies import from_whole_range

IN_CI = 20
SLOW = 200
CONVOLUTIONS_IN_CI = 10
CONVOLUTIONS_SLOW = 90


def random_spec(number: int) -> NetworkSpec:
    """The `number`-th description: of every few some are at the ends of what a description can be."""
    rng = np.random.default_rng(number)
    while True:
        # Few are impossible: errors of many classes by wide feedback.
        with suppress(SpecError):
            return draw_spec(number, rng)


def draw_spec(number: int, rng: np.random.Generator) -> NetworkSpec:
    """Raises SpecError where what is drawn is impossible."""

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    def mostly(low: int, high: int, *ends: int) -> int:
        return between(low, high) if rng.random() < 0.85 else ends[between(0, len(ends) - 1)]

    def unsigned() -> tuple[int, int]:
        bits = mostly(3, 8, 1, 8)
        return bits, mostly(1, bits, bits)

    # Choices that came later, and leave the others what they were.
    later = np.random.default_rng([number, 1])
    size, (bits, fraction) = mostly(4, 40, 1, 64), unsigned()
    inputs = InputSpec(size, bits, fraction)
    if later.random() < 0.3 and bits > 1:
        inputs = InputSpec(size, bits, min(fraction, bits - 1), signed=True)
    activation = QFormat(*unsigned())
    # Activations cannot have more fraction bits than the products that they are rounded from.
    least = max(0, activation.fraction - inputs.fraction)
    bits = mostly(6, 14, 2, 16)
    weight = QFormat(bits, min(16, max(least, bits - mostly(0, 2, -1))), signed=True)
    error_bits = mostly(4, 8, 2, 8)
    decay: tuple[float, ...] = tuple(mostly(0, 3, 0, 8) for _ in range(between(1, 4)))
    if later.random() < 0.3:
        decay = (*decay, float(later.integers(4 * 256)) / 256)

    depth, classes = ((1, 2), (2, 10), (1, 100), (3, between(2, 20)), (6, between(2, 8)))[number % 5]
    usual = number % 2 == 0
    classifiers = random_classifiers(rng, depth, usual, activation.fraction + error_bits)
    frozen = random_frozen(number, classifiers)
    sources = [classifiers[-1] if spec.error == "top" else spec for spec in classifiers]
    layers = []
    for index in range(depth):
        neurons = mostly(2, 24, 1, 40)
        fraction = inputs.fraction if index == 0 else activation.fraction
        # Rates at which weights move: the update shifts by few bits.
        halved = sources[index].error == "local" and sources[index].loss == "cross-entropy"
        halved = halved and not classifiers[index].learns
        gain = 0 if classifiers[index].learns else classifiers[index].feedback_weights[-1].bit_length() - 1
        own_decay = None if usual or rng.random() < 0.7 else (float(later.integers(512)) / 256, between(0, 3))
        largest_decay = ceil(max(decay if own_decay is None else own_decay))
        offset = fraction + error_bits + gain + largest_decay - weight.fraction - halved
        layers.append(
            LayerSpec(
                neurons,
                lanes=mostly(1, min(neurons, 20), 1, neurons),
                rate_shift=max(0, mostly(4, 12, 1) - offset),
                # Scores that soon are beyond doubt leave some samples without an error.
                score_shift=None if rng.random() < 0.5 else mostly(0, 6, 0, 16) if usual else 0,
                init_shift=None if rng.random() < 0.5 else between(0, min(4, weight.fraction)),
                classifier=classifiers[index],
                dropout=0.0 if usual or rng.random() < 0.6 else 0.3,
                decay=own_decay,
                frozen=frozen[index],
            )
        )
    return NetworkSpec(
        name=f"random-{number}",
        classes=classes,
        input=inputs,
        layers=tuple(layers),
        activation=activation,
        weight=weight,
        error_bits=error_bits,
        noise_bits=mostly(1, 12, 1, 16),
        early_exit=not usual and depth > 1,
        training=TrainingSpec(decay=decay, seed=number),
    )


def random_conv_spec(number: int) -> NetworkSpec:
    """The `number`-th description with convolutions: one to three, behind them perhaps a dense layer."""
    rng = np.random.default_rng([number, 2])
    while True:
        # Some are impossible: nothing is left of a map, or cells do not divide it.
        with suppress(SpecError):
            return draw_conv_spec(number, rng)


def draw_conv_spec(number: int, rng: np.random.Generator) -> NetworkSpec:
    """Raises SpecError where what is drawn is impossible."""

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    # Now and then more columns or channels than a word of a mask has.
    shape = (between(17, 20) if chance(0.15) else between(1, 5), between(2, 9), between(2, 9))
    if chance(0.15):
        shape = (1, between(2, 4), between(17, 21))
    bits = between(4, 8)
    inputs = InputSpec(prod(shape), bits, between(2, bits - 1), signed=chance(0.5), shape=shape)
    activation = QFormat(between(4, 8), 4)
    weight = QFormat(between(9, 14), 11 - between(0, 2), signed=True)
    error_bits, decay = between(4, 8), tuple(float(rng.integers(4 * 256)) / 256 for _ in range(3))
    convolutions, dense = between(1, 3), between(0, 1)
    depth = convolutions + dense
    classifiers = random_classifiers(rng, depth, False, activation.fraction + error_bits)
    frozen = random_frozen(number, classifiers)
    layers: list[LayerSpec | ConvSpec] = []
    for index in range(depth):
        neurons = between(17, 24) if chance(0.15) else between(1, 10)
        common: dict[str, Any] = {
            "lanes": between(1, neurons),
            # At which weights move.
            "rate_shift": between(5, 9),
            "score_shift": between(0, 5),
            "classifier": classifiers[index],
            "decay": None if chance(0.7) else decay[:1],
            "frozen": frozen[index],
        }
        if index < convolutions:
            kernel = between(1, 5)
            layers.append(
                ConvSpec(
                    neurons,
                    kernel,
                    stride=between(1, 2),
                    padding=None if chance(0.6) else between(0, kernel - 1),
                    pool=between(1, 2),
                    resolution=between(0, 4),
                    **common,
                )
            )
        else:
            layers.append(LayerSpec(neurons, **common))
    return NetworkSpec(
        name=f"random-convolutions-{number}",
        classes=between(2, 8),
        input=inputs,
        layers=tuple(layers),
        activation=activation,
        weight=weight,
        error_bits=error_bits,
        noise_bits=between(4, 12),
        early_exit=depth > 1 and chance(0.3),
        sum_scores=depth > 1 and chance(0.5),
        training=TrainingSpec(decay=decay, seed=number),
    )


def random_classifiers(rng: np.random.Generator, depth: int, usual: bool, fraction: int) -> list[ClassifierSpec]:
    """Of all layers; unless `usual`, every choice that a description has, one or another at each layer.

    fraction  bits of an activation times an error, what a learned matrix learns by
    """
    if usual:
        return [ClassifierSpec()] * depth

    def any_of(*choices: str) -> str:
        return choices[rng.integers(len(choices))]

    # Below a layer that learns from the label none can learn from the last one.
    top = any_of("local", "local", "label")
    others = ("local", "label") if top == "label" else ("local", "label", "top", "top")
    classifiers = []
    for index in range(depth):
        error = top if index == depth - 1 else any_of(*others)
        loss = any_of("cross-entropy", "squared-hinge") if error == "local" else "cross-entropy"
        feedback = any_of("symmetric", "sign-concordant", "random")
        kind = any_of("uniform", "uniform", "ternary", "learned", "learned")
        if kind == "learned" and error == "local":
            bits = int(rng.integers(8, 16, endpoint=True))
            # Products are shifted right, by a bit at least.
            shift = max(0, bits - 2 - fraction) + int(rng.integers(4))
            matrix, feedback = ClassifierSpec("learned", bits=bits, rate_shift=shift), "symmetric"
        elif kind == "ternary":
            matrix = ClassifierSpec("ternary", feedback="symmetric" if feedback == "sign-concordant" else feedback)
        else:
            matrix = ClassifierSpec(bits=int(rng.integers(1, 4)), feedback=feedback)
        classifiers.append(replace(matrix, feedback_bits=int(rng.integers(2, 4)), loss=loss, error=error))
    return classifiers


def random_frozen(number: int, classifiers: list[ClassifierSpec]) -> list[str]:
    """What of each layer does not learn: where there are several, at most one is frozen, and the weights of others."""
    rng, frozen = np.random.default_rng([number, 3]), ["no"] * len(classifiers)
    if len(classifiers) > 1:
        frozen = ["weights" if c.learns and rng.random() < 0.6 else "no" for c in classifiers]
        if rng.random() < 0.5:
            frozen[rng.integers(len(classifiers))] = "all"
    return frozen


def target_of(number: int) -> Target:
    """What the `number`-th chip is made for: every fourth has its weights in single-port memories."""
    return SINGLE_PORT if number % 4 == 3 else GENERIC


def random_pixels(rng: np.random.Generator, count: int, inputs: InputSpec) -> NDArray[np.uint8]:
    """Images from empty to full: one all zero and one all 255 at least, the others with few to many zeros."""
    pixels = rng.integers(0, 256, (count, inputs.size), np.uint8)
    pixels[rng.random((count, inputs.size)) > rng.choice([0.1, 0.4, 1.0], (count, 1))] = inputs.zero
    empty, full = rng.choice(count, 2, replace=False)
    pixels[empty], pixels[full] = inputs.zero, 255
    return pixels


class Comparison:
    """One chip and one golden model that are told the same and must say the same."""

    def __init__(self, spec: NetworkSpec, chip: ChipDevice) -> None:
        self.spec = spec
        self.chip = chip
        self.golden = GoldenNetwork(spec)
        self._rng = np.random.default_rng(spec.training.seed)
        self._samples = 0
        chip.reset()

    def write_weights(self) -> None:
        """Any weights that the format has."""
        weights = from_whole_range(self.golden.plan, self._rng)
        self.golden.weights = weights
        self.chip.write_weights(weights)

    def set_largest_decay(self) -> None:
        shifts = tuple(plan.max_decay for plan in self.golden.plan.layers)
        self.golden.decay = shifts
        self.chip.set_decay(shifts)

    def set_any_decay(self) -> None:
        """Of all entries that its description has."""
        decay = self.spec.decay_at(int(self._rng.integers(8)))
        self.golden.decay = decay
        self.chip.set_decay(decay)

    def set_exits(self, most: int) -> None:
        """At which some samples stop at each layer, if they can; at 0 all do, but for those that are learned."""
        if self.spec.early_exit:
            exits = tuple(min(int(self._rng.integers(most + 1)), none) for none in self.golden.plan.no_exits)
            self.golden.exits = exits
            self.chip.set_exits(exits)

    def run(self, count: int, learn: bool = True) -> list[LayerTrace]:
        """So many samples in one stream. Returns the golden model's trace of the last one."""
        pixels = random_pixels(self._rng, count, self.spec.input)
        labels = self._rng.integers(0, self.spec.classes, count) if learn else None
        results = self.chip.stream(pixels, labels)
        for number, x in enumerate(quantise_pixels(self.spec, pixels)):
            traces = self.golden.step(x, None if labels is None else int(labels[number]))
            assert_same(f"sample {self._samples + number}: answered", len(traces) - 1, results.answered[number])
            for index, trace in enumerate(traces):
                where = f"layer {index}, sample {self._samples + number}:"
                assert_same(f"{where} predicted", trace.predicted, results.predicted[number, index])
                assert_same(f"{where} error", trace.error_size, results.error[number, index])
        self._samples += count
        return traces

    def assert_same_last_sample(self, traces: list[LayerTrace]) -> None:
        """The registers that keep what the last sample was to each layer."""
        for index, trace in enumerate(traces):
            plan = self.golden.plan.layers[index]
            assert_same(f"layer {index}: score", trace.scores, self.chip.read(index, Kind.SCORES)[:, 0])
            if trace.error is not None and plan.classifier.error == "local":
                assert_same(f"layer {index}: error of class", trace.error, self.chip.read(index, Kind.ERRORS)[:, 0])
            if isinstance(plan, ConvPlan):
                continue
            begin, end = self.chip.read(index, Kind.EVENT_SPAN)[:, 0]
            where = np.arange(begin, end if end > begin else end + plan.event_depth) % plan.event_depth
            inputs, values = split_events(plan, self.chip.read(index, Kind.EVENTS)[where, 0])
            assert_same(f"layer {index}: index of event", trace.event_index, inputs)
            assert_same(f"layer {index}: value of event", trace.event_value, values)

    def assert_same_state(self) -> None:
        """Weights, noise and counters; and every cycle is accounted for."""
        weights, counters = self.chip.read_weights(), self.chip.counters()
        assert_same("samples", self._samples, counters.samples)
        assert_same("link errors", 0, counters.link_errors)
        for name, expected, actual in zip(self.golden.plan.arrays, self.golden.weights, weights, strict=True):
            assert_same(name, expected, actual)
        for index, layer in enumerate(self.golden.layers):
            noise = self.chip.read(index, Kind.NOISE_STATE).view(np.uint64)[0, 0]
            assert_same(f"layer {index}: noise state", layer.noise.state, noise)
            if layer.plan.classifier.learns:
                noise = self.chip.read(index, Kind.MATRIX_NOISE_STATE).view(np.uint64)[0, 0]
                assert_same(f"layer {index}: matrix's noise state", layer.matrix_noise.state, noise)
            if layer.plan.dropped:
                mask = self.chip.read(index, Kind.MASK_STATE).view(np.uint64)[0, 0]
                assert_same(f"layer {index}: mask state", layer.mask.state, mask)
            for name, count in asdict(layer.counters).items():
                assert_same(f"layer {index}: {name}", count, getattr(counters.layers[index], name))
            rows = counters.layers[index].words_read + counters.layers[index].gradients + counters.discarded[index]
            accounted = rows + counters.starved[index] + counters.waiting[index]
            assert_same(f"layer {index}: cycles", counters.cycles, accounted)


def test_random_specs_are_worth_comparing() -> None:
    """Those of CI: most of them learn, and among them is everything that a layer can do with a sample."""
    done: Counter[str] = Counter()
    for number in range(IN_CI):
        spec = random_spec(number)
        golden, rng = GoldenNetwork(spec), np.random.default_rng(0)
        for x in quantise_pixels(spec, random_pixels(rng, 120, spec.input)):
            golden.step(x, int(rng.integers(spec.classes)))
        layers = [layer.counters for layer in golden.layers]
        done["weights move"] += any(c.words_written for c in layers)
        done["weights are clipped"] += any(c.saturated for c in layers)
        done["some samples learned, others not"] += any(c.learned and c.skipped for c in layers)
        done["one lane"] += any(plan.lanes == 1 for plan in golden.plan.layers)
        done["several banks"] += any(len(plan.banks) > 1 for plan in golden.plan.layers)
        done["groups are not full"] += any(plan.neurons % plan.lanes for plan in golden.plan.layers)
        done["weights move in single-port memories"] += target_of(number) is SINGLE_PORT and any(
            c.words_written for c in layers
        )
        done["neurons are dropped"] += any(plan.dropped for plan in golden.plan.layers)
        done["a decay that is no whole number"] += any(plan.decay_fraction for plan in golden.plan.layers)
        done["signed inputs"] += spec.input.signed
        done["frozen layers"] += any(plan.frozen == "all" for plan in golden.plan.layers)
        done["a decay of its own"] += any(plan.has_own_decay for plan in golden.plan.layers)
        for kind in ("matrix", "feedback", "loss", "error"):
            done.update({getattr(plan.classifier, kind) for plan in golden.plan.layers})
    assert done["weights move"] > IN_CI // 2
    assert len(done) == 12 + 3 + 3 + 2 + 3
    assert min(done.values()) >= 3, done


def test_random_convolutions_are_worth_comparing() -> None:
    """Those of CI: they learn, and among them is everything that a convolution can be."""
    done: Counter[str] = Counter()
    for number in range(CONVOLUTIONS_IN_CI):
        spec = random_conv_spec(number)
        golden, rng = GoldenNetwork(spec), np.random.default_rng(0)
        for x in quantise_pixels(spec, random_pixels(rng, 40, spec.input)):
            golden.step(x, int(rng.integers(spec.classes)))
        plans = [plan for plan in golden.plan.layers if isinstance(plan, ConvPlan)]
        learners = [layer for layer in golden.layers if isinstance(layer.plan, ConvPlan)]
        done["weights move"] += any(layer.counters.words_written for layer in learners)
        done["groups are passed over"] += any(
            0 < layer.counters.words_written < layer.counters.learned * layer.plan.weight_rows for layer in learners
        )
        done["several groups"] += any(plan.groups > 1 for plan in plans)
        done["several banks"] += any(len(plan.banks) > 1 for plan in plans)
        done["several words of channels"] += any(plan.channel_words > 1 for plan in plans)
        done["several words of columns"] += any(plan.column_words > 1 for plan in plans)
        done["all pixels"] += any(plan.conv.resolution == 0 for plan in plans)
        done["cells of several pixels"] += any(plan.cell != (1, 1) for plan in plans)
        done["stride"] += any(plan.conv.stride == 2 for plan in plans)
        done["pool"] += any(plan.conv.pool == 2 for plan in plans)
        done["learned classifier"] += any(plan.classifier.learns for plan in plans)
        done["fixed classifier"] += any(not plan.classifier.learns for plan in plans)
        done["dense behind"] += not isinstance(golden.plan.layers[-1], ConvPlan)
        done["convolution behind"] += len(plans) > 1
        done["scores are summed"] += spec.sum_scores
        done["early exit"] += spec.early_exit
        done["frozen layers"] += any(plan.frozen == "all" for plan in golden.plan.layers)
        done["signed inputs"] += spec.input.signed
        done["single-port memories"] += target_of(number) is SINGLE_PORT
    assert done["weights move"] == CONVOLUTIONS_IN_CI
    assert min(done.values()) >= 1, done


NUMBERS = [*range(IN_CI), *(pytest.param(number, marks=pytest.mark.slow) for number in range(IN_CI, IN_CI + SLOW))]
CONVOLUTIONS = [
    *range(CONVOLUTIONS_IN_CI),
    *(
        pytest.param(number, marks=pytest.mark.slow)
        for number in range(CONVOLUTIONS_IN_CI, CONVOLUTIONS_IN_CI + CONVOLUTIONS_SLOW)
    ),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the run-time library; no chip here is built twice."""
    return tmp_path_factory.mktemp("simulators")


@pytest.mark.parametrize("number", NUMBERS)
def test_chip_equals_golden_model(number: int, cache: Path) -> None:
    """Learning at the first rate and at the last, inference in between and at the end."""
    compare(random_spec(number), number, cache)


@pytest.mark.parametrize("number", CONVOLUTIONS)
def test_chip_of_convolutions_equals_golden_model(number: int, cache: Path) -> None:
    compare(random_conv_spec(number), number, cache)


def compare(spec: NetworkSpec, number: int, cache: Path) -> None:
    with (
        naming(spec),
        SimulatedChip(to_verilog(LinkedChip(spec, target_of(number))), cache_dir=cache, optimise=False) as chip,
        ChipDevice(spec, Link(chip.url)) as device,
    ):
        both = Comparison(spec, device)
        if number % 3 == 0:
            both.write_weights()
        both.assert_same_last_sample(both.run(16))
        both.assert_same_state()
        both.set_exits(29)
        both.run(12, learn=False)
        both.set_any_decay()
        both.set_exits(0)
        both.run(14)
        both.set_largest_decay()
        both.run(14)
        both.set_exits(29)
        both.assert_same_last_sample(both.run(4, learn=False))
        both.assert_same_state()


def test_one_chip_freezes_any_layer(cache: Path) -> None:
    """What is frozen is in no chip: it does as each description says, one after the other."""
    learned, top = ClassifierSpec("learned"), ClassifierSpec(error="top")
    layers = (LayerSpec(9, 4, classifier=learned), LayerSpec(7, 7, classifier=top), LayerSpec(6, 3))
    free = NetworkSpec("freezes", 4, InputSpec(12), layers, training=TrainingSpec(5, (0, 1.5)))
    with SimulatedChip(to_verilog(LinkedChip(free)), cache_dir=cache, optimise=False) as simulated:
        for frozen in (
            ("no", "no", "no"),
            ("weights", "no", "all"),
            ("all", "all", "no"),
            ("no", "all", "all"),
            ("all", "all", "all"),
            ("no", "no", "no"),
        ):
            spec = free.replaced({f"layers.{number}.frozen": word for number, word in enumerate(frozen)})
            with naming(spec), ChipDevice(spec, Link(simulated.url)) as device:
                both = Comparison(spec, device)
                both.set_any_decay()
                both.assert_same_last_sample(both.run(40))
                both.assert_same_state()
                for word, layer in zip(frozen, both.golden.layers, strict=True):
                    assert (layer.counters.learned > 0) == (word != "all")
                    assert (layer.counters.words_written > 0) == (word == "no")


@contextmanager
def naming(spec: NetworkSpec) -> Iterator[None]:
    """Whatever fails, the description is told."""
    try:
        yield
    except Exception as error:
        error.add_note(spec.to_toml())
        raise
