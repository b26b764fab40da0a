"""The network once more, as plainly as its equations: integers, fractions and loops.

`locallearn.quant` computes with sums that were halved, shifts that were derived and registers that leap. Here
the matrices M and K are what they are, numbers keep the meaning that their formats give them, registers move one bit
at a time, and nothing is shared with the golden model but the description and, from its plan, the seeds and the first
weights. That both agree to the bit is the proof of what was halved, derived and leapt over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil, floor, inf, log

from locallearn.quant.layer_spec import ConvSpec
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["BitSerialLfsr", "NaiveLayer", "NaiveNetwork", "NaiveTrace", "exponential"]

NOISE_STEPS = 32
"""Bits by which the noise register moves on after a weight word."""

LANE_ROTATION = 11
"""Bits by which each lane sees the noise register further to the right than the lane before it."""


class BitSerialLfsr:
    """b[t] = b[t-64] ^ b[t-63] ^ b[t-61] ^ b[t-60]; `state` is the next 64 bits, the next one in bit 0."""

    def __init__(self, state: int) -> None:
        self.state = state

    def step(self) -> int:
        """Give the next bit and move on by one."""
        state = self.state
        new = (state ^ state >> 1 ^ state >> 3 ^ state >> 4) & 1
        self.state = state >> 1 | new << 63
        return state & 1

    def leap(self, steps: int) -> None:
        """Move on by so many."""
        for _ in range(steps):
            self.step()


def seen(noise: BitSerialLfsr, lane: int, bits: int) -> Fraction:
    """What a lane sees of the noise: between 0 and 1, in the middle of one of 2^bits equal parts."""
    rotation = lane * LANE_ROTATION % 64
    rotated = noise.state >> rotation | noise.state << (64 - rotation)
    return Fraction(2 * (rotated % 2**bits) + 1, 2 ** (bits + 1))


@cache
def exponential(units: int) -> int:
    """The whole number nearest to 256 * 2^(-units / 4), found by comparing fourth powers."""
    if units >= 36:
        return 0  # 256 * 2^-9 is one half: no longer nearer to 1
    nearest = 256
    while (2 * nearest - 1) ** 4 * 2**units >= 512**4:
        nearest -= 1
    return nearest


def entry(weights: Sequence[int], bits: Sequence[int]) -> int:
    """An entry of a matrix: its weights, each with the sign of its bit."""
    return sum(weight if bit else -weight for weight, bit in zip(weights, bits, strict=True))


def magnitude(weights: Sequence[int]) -> int:
    """The power of two below the quadratic mean of entries with these weights."""
    return 2 ** floor(log(sum(weight * weight for weight in weights) or 1, 4) + 1e-9)


def temperature(spec: NetworkSpec, layer: int, features: int) -> int:
    """The difference of scores that counts as one unit: a quarter octave of probability.

    Scores of N features around 1 by +-1 differ by about sqrt(N), which shall be 3 nats: 12 / ln 2 units.
    """
    squared = (Decimal(2).ln() / 12) ** 2 * 4**spec.activation.fraction * features
    own = spec.layers[layer].score_shift
    unit = 2 << (own or 0)
    while own is None and 2 * unit**2 < squared:  # the power of two nearest by ratio
        unit *= 2
    return unit * magnitude(spec.layers[layer].classifier.matrix_weights)


def error_bits(spec: NetworkSpec) -> int:
    """Own, or 6, or as many as leave something of 1 / (the power of two from the number of classes up)."""
    if spec.error_bits is not None:
        return spec.error_bits
    bits = 6
    while 2**bits < spec.classes:
        bits += 1
    return bits


@dataclass(frozen=True)
class NaiveTrace:
    """What a layer made of one sample; `scores` are S = M y."""

    events: list[tuple[int, int]]
    activations: list[int]
    features: list[int]
    scores: list[int]
    predicted: int
    error: list[int] | None


class NaiveLayer:
    """A dense layer, its classifier and its noise. `weights[j][i]` belongs to neuron j, the bias is the last.

    What is not so in a convolution is a method of its own.
    """

    def __init__(self, spec: NetworkSpec, index: int, below: int = 0) -> None:
        layer, plan = spec.layers[index], NetworkPlan(spec).layers[index]
        self.spec = spec
        self.neurons = layer.neurons
        self.lanes = layer.lanes
        self.inputs = spec.input.size if index == 0 else below
        self.outputs = self.features = self.neurons
        self.set_shapes(index)
        self.input_format = spec.input if index == 0 else spec.activation
        given = (layer.rate_shift, spec.training.rate_shift)
        # 8 suits 784 inputs; three more for each four times as many.
        own = 8 + max(0, round(3 * log(self.fan_in / 784, 4)))
        self.rate_shift = next((shift for shift in given if shift is not None), own)
        self.temperature = temperature(spec, index, self.features)
        self.weights: list[list[int]] = plan.initial_weights().tolist()
        self.classifier = layer.classifier
        if self.classifier.learns:
            self.matrix = self.feedback = plan.initial_matrix().tolist()
            self.one = 2 ** (self.classifier.format.bits - 3)
        else:
            self.matrix, self.feedback = self.draw_matrices(plan.classifier_seed, plan.feedback_seed)
        self.noise = BitSerialLfsr(plan.noise_seed)
        self.matrix_noise = BitSerialLfsr(plan.matrix_noise_seed)
        self.mask = BitSerialLfsr(plan.mask_seed)
        self.dropout = Fraction(round(256 * layer.dropout), 256)
        self.frozen = layer.frozen
        self.decays = spec.training.decay if layer.decay is None else layer.decay
        self.counters = dict.fromkeys(
            ("events", "words_read", "words_written", "gradients", "learned", "skipped", "saturated"), 0
        )

    def set_shapes(self, index: int) -> None:
        """Of what comes and goes."""
        self.fan_in = self.inputs

    def draw_matrices(self, classifier_seed: int, feedback_seed: int) -> tuple[list[list[int]], list[list[int]]]:
        """M and K, a row a neuron, from a register each; where K is only to have M's signs, they are its last bits."""
        spec = self.classifier
        register, other = BitSerialLfsr(classifier_seed), BitSerialLfsr(feedback_seed)
        shared = {"symmetric": len(spec.matrix_weights), "sign-concordant": 1, "random": 0}[spec.feedback]
        matrix, feedback = [], []
        for _ in range(self.features):
            matrix_row, feedback_row = [], []
            for _ in range(self.spec.classes):
                bits = [register.step() for _ in spec.matrix_weights]
                own = [other.step() for _ in spec.feedback_weights[shared:]]
                matrix_row.append(entry(spec.matrix_weights, bits))
                feedback_row.append(entry(spec.feedback_weights, own + bits[len(bits) - shared :]))
            matrix.append(matrix_row)
            feedback.append(feedback_row)
        return matrix, feedback

    def infer(self, x: Sequence[int], label: int | None) -> NaiveTrace:
        """The layer's answer to one sample, and where there is a label its own error."""
        events = [(i, value) for i, value in enumerate(x) if value != 0] + [(self.inputs, self.one_half)]
        self.counters["events"] += len(events)
        activations, features = self.forward(x, events)
        if label is not None and self.dropout:
            kept = [self.kept() for _ in activations]
            activations = [activation if keep else 0 for activation, keep in zip(activations, kept, strict=True)]
            features = activations
        scores = [self.score(c, features) for c in range(self.spec.classes)]
        error = None if label is None else self.error(scores, label)
        return NaiveTrace(events, activations, features, scores, scores.index(max(scores)), error)

    def forward(self, x: Sequence[int], events: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """The layer's activations, and what its classifier sees of them: all."""
        self.counters["words_read"] += len(events) * len(self.groups)
        activations = [self.activation(neuron, events) for neuron in range(self.neurons)]
        return activations, activations

    @property
    def one_half(self) -> int:
        """What feeds the bias."""
        return 2**self.input_format.fraction // 2

    def kept(self) -> bool:
        """Whether the next neuron's byte of the mask, as a fraction of 1, says that it takes part."""
        return Fraction(sum(self.mask.step() << bit for bit in range(8)), 256) >= self.dropout

    @property
    def groups(self) -> list[range]:
        """Neurons whose weights are side by side."""
        return [range(self.neurons)[first : first + self.lanes] for first in range(0, self.neurons, self.lanes)]

    def learn(self, trace: NaiveTrace, error: list[int], decay: float) -> None:
        """Learn from a sample at the rate 2^-(rate_shift + decay), in the mean of samples."""
        if any(error) and self.frozen != "all":
            shift = self.drawn_shift(Fraction(decay))
            if self.frozen != "weights":
                self.update(trace, [self.projection(feature, error) for feature in range(self.features)], shift)
            if self.classifier.learns:
                self.update_matrix(trace.features, error, shift)
            self.counters["learned"] += 1
        else:
            self.counters["skipped"] += 1

    def drawn_shift(self, decay: Fraction) -> int:
        """The whole number above the decay or that below: this one as often as it lies closer to the decay."""
        byte = self.noise.state >> 56
        return floor(decay) if Fraction(byte, 256) < ceil(decay) - decay else ceil(decay)

    def activation(self, neuron: int, events: list[tuple[int, int]]) -> int:
        """ReLU of the exact sum, to the nearest number of the activation's format, at most its largest."""
        total = sum(self.weights[neuron][i] * value for i, value in events)
        exact = Fraction(total, 2**self.spec.weight.fraction * 2**self.input_format.fraction)
        nearest: int = floor(exact * 2**self.spec.activation.fraction + Fraction(1, 2))
        return min(max(nearest, 0), (1 << self.spec.activation.bits) - 1)

    def score(self, c: int, features: list[int]) -> int:
        """S = M y; of a matrix that learns rounded down, to even numbers where only differences matter."""
        score = sum(row[c] * feature for row, feature in zip(self.matrix, features, strict=True))
        if self.classifier.learns:
            return self.score_unit * floor(Fraction(score, self.score_unit * self.one))
        return score

    @property
    def score_unit(self) -> int:
        """What a difference of 1 stands for on the chip."""
        return 1 if self.classifier.loss == "squared-hinge" else 2

    def leads_by(self, lead: float, scores: list[int]) -> bool:
        """Whether the best score is so much above the second, in the chip's units."""
        *_, second, best = sorted(scores)
        return best - second >= self.score_unit * lead

    def error(self, scores: list[int], label: int) -> list[int]:
        """By the layer's rule, in units of 2^-error_bits."""
        if self.classifier.error == "label":
            return [-(2 ** error_bits(self.spec)) if c == label else 0 for c in range(self.spec.classes)]
        if self.classifier.loss == "squared-hinge":
            return [self.hinge(score, c == label) for c, score in enumerate(scores)]
        return self.softmax(scores, label)

    def hinge(self, score: int, wanted: bool) -> int:
        """-u max(0, 1 - u s) at least of a unit's size and at most of all but a unit of 2; 1 is 16 temperatures."""
        sign = 1 if wanted else -1
        one = 16 * self.temperature
        size = floor(Fraction(one - sign * score, one) * 2 ** error_bits(self.spec))
        return -sign * min(max(size, 0), 2 * 2 ** error_bits(self.spec) - 1)

    def softmax(self, scores: list[int], label: int) -> list[int]:
        """softmax - onehot in units of 2^-error_bits, the sum below it rounded up to a power of two.

        All is rounded down but the label's entry, which makes the sum 0.
        """
        powers = [exponential((max(scores) - score) // self.temperature) for score in scores]
        normaliser = 1
        while normaliser < sum(powers):
            normaliser *= 2
        error = [power * 2 ** error_bits(self.spec) // normaliser for power in powers]
        error[label] = 0
        error[label] = -sum(error)
        return error

    def projection(self, feature: int, error: list[int]) -> int:
        """d = K e; to the nearest whole number if K learns."""
        d = sum(entry * e for entry, e in zip(self.feedback[feature], error, strict=True))
        return floor(Fraction(d, self.one) + Fraction(1, 2)) if self.classifier.learns else d

    def update_matrix(self, features: list[int], error: list[int], shift: int) -> None:
        """M -= rate * e * y, each rounded up or down at random."""
        unit = Fraction(self.one, 2 ** (self.classifier.rate_shift + shift))
        unit /= 2**self.spec.activation.fraction * 2 ** error_bits(self.spec)
        # As for the weights, finer noise would alter nothing.
        finest = self.classifier.rate_shift + ceil(max(self.decays)) - log(self.one, 2)
        finest += self.spec.activation.fraction + error_bits(self.spec)
        for row, feature in zip(self.matrix, features, strict=True):
            for c, e in enumerate(error):
                dither = seen(self.matrix_noise, c, min(self.spec.noise_bits, round(finest)))
                learned = row[c] - floor(feature * e * unit + dither)
                row[c] = min(max(learned, -4 * self.one), 4 * self.one - 1)
            self.matrix_noise.leap(NOISE_STEPS)

    def update(self, trace: NaiveTrace, d: list[int], shift: int) -> None:
        """W -= rate * d * x, each rounded up or down at random, for every group with an error and every event."""
        d = [error if activation else 0 for error, activation in zip(d, trace.activations, strict=True)]
        for group in self.groups:
            if any(d[neuron] for neuron in group):
                for i, value in trace.events:
                    self.change_word(group, i, [d[neuron] * value for neuron in group], shift)

    def change_word(self, group: range, i: int, products: list[int], shift: int) -> None:
        """The weights of input `i` of a group's neurons by products of input and error."""
        spec = self.spec
        smallest, largest = -(1 << (spec.weight.bits - 1)), (1 << (spec.weight.bits - 1)) - 1
        rate = Fraction(
            1, 2 ** (self.rate_shift + shift) * magnitude(self.classifier.feedback_weights) * self.cell_size
        )
        # The value of one unit of x times one unit of d, at that rate and counted in units of the weights.
        unit = rate * Fraction(2**spec.weight.fraction, 2**self.input_format.fraction * 2 ** error_bits(spec))
        for lane, (neuron, product) in enumerate(zip(group, products, strict=True)):
            exact = self.weights[neuron][i] - floor(product * unit + self.dither(lane))
            self.weights[neuron][i] = min(max(exact, smallest), largest)
            self.counters["saturated"] += self.weights[neuron][i] != exact
        self.noise.leap(NOISE_STEPS)
        self.counters["words_read"] += 1
        self.counters["words_written"] += 1

    cell_size = 1
    """Activations that a feature stands for, as a power of two."""

    def dither(self, lane: int) -> Fraction:
        """Between 0 and 1, in the middle of one of 2^n equal parts."""
        spec = self.spec
        # At the lowest rate a change has this many fraction bits: finer noise would alter nothing. One less where the
        # error sums to zero, as all d are even then.
        source = spec.layers[-1].classifier if self.classifier.error == "top" else self.classifier
        even = source.error == "local" and source.loss == "cross-entropy" and not self.classifier.learns
        lowest = self.rate_shift + ceil(max(self.decays))
        lowest += log(magnitude(self.classifier.feedback_weights) * self.cell_size, 2)
        finest = self.input_format.fraction + error_bits(spec) + round(lowest) - spec.weight.fraction - even
        return seen(self.noise, lane, min(spec.noise_bits, finest))


class NaiveConv(NaiveLayer):
    """A convolution. `weights[j][i]` belongs to channel j; i counts kernel rows, kernel columns and channels."""

    def set_shapes(self, index: int) -> None:
        layer, shape = self.spec.layers[index], self.spec.input_map(index)
        assert isinstance(layer, ConvSpec) and shape is not None
        self.layer = layer
        self.rows, self.columns, self.channels = shape
        self.padding = layer.kernel // 2 if layer.padding is None else layer.padding
        self.fan_in = layer.kernel * layer.kernel * self.channels
        # Places where the kernel fits, and whole pools of them.
        self.pooled_rows, self.pooled_columns = (
            len(range(-self.padding, side + self.padding - layer.kernel + 1, layer.stride)) // layer.pool
            for side in (self.rows, self.columns)
        )
        self.cell_rows = self.pooled_rows // layer.resolution if layer.resolution else 1
        self.cell_columns = self.pooled_columns // layer.resolution if layer.resolution else 1
        self.outputs = self.pooled_rows * self.pooled_columns * layer.channels
        self.features = self.outputs // (self.cell_rows * self.cell_columns)
        while self.cell_size < self.cell_rows * self.cell_columns:
            self.cell_size *= 2

    def window(self, x: Sequence[int], row: int, column: int) -> list[int]:
        """What the kernel sees at a place, and what feeds the bias."""
        inputs = []
        top, left = row * self.layer.stride - self.padding, column * self.layer.stride - self.padding
        for y in range(top, top + self.layer.kernel):
            for z in range(left, left + self.layer.kernel):
                inside = 0 <= y < self.rows and 0 <= z < self.columns
                first = (y * self.columns + z) * self.channels
                inputs += x[first : first + self.channels] if inside else [0] * self.channels
        return [*inputs, self.one_half]

    def forward(self, x: Sequence[int], events: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """The largest of each pool, and their rounded averages over cells."""
        pool, activations = self.layer.pool, []
        sums = [0] * self.features
        # Where each activation that is not 0 comes from: the window that won, and the feature that it is part of.
        self.winners: list[tuple[int, list[int], int]] = []
        self.seen = 0
        for row in range(self.pooled_rows):
            for column in range(self.pooled_columns):
                windows = [self.window(x, row * pool + y, column * pool + z) for y in range(pool) for z in range(pool)]
                self.seen += sum(value != 0 for window in windows for value in window)
                cell = row // self.cell_rows * (self.pooled_columns // self.cell_columns) + column // self.cell_columns
                for channel in range(self.neurons):
                    answers = [self.activation(channel, list(enumerate(window))) for window in windows]
                    best, feature = max(answers), cell * self.neurons + channel
                    activations.append(best)
                    sums[feature] += best
                    if best:
                        self.winners.append((channel, windows[answers.index(best)], feature))
        self.counters["words_read"] += self.seen * len(self.groups)
        return activations, [floor(Fraction(total, self.cell_size) + Fraction(1, 2)) for total in sums]

    def update(self, trace: NaiveTrace, d: list[int], shift: int) -> None:
        """W -= rate * sum over all places of d * x, rounded up or down at random, for every group with an error."""
        for group in self.groups:
            of_group = [(channel, window, d[feature]) for channel, window, feature in self.winners if channel in group]
            if any(error for *_, error in of_group):
                self.counters["gradients"] += self.seen
                for i in range(self.fan_in + 1):
                    products = [
                        sum(window[i] * error for channel, window, error in of_group if channel == neuron)
                        for neuron in group
                    ]
                    self.change_word(group, i, products, shift)


class NaiveNetwork:
    """All layers; what `GoldenNetwork` is, and what it is compared with."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.layers: list[NaiveLayer] = []
        for index, layer in enumerate(spec.layers):
            kind = NaiveConv if isinstance(layer, ConvSpec) else NaiveLayer
            self.layers.append(kind(spec, index, self.layers[-1].outputs if self.layers else 0))
        self.decay: tuple[float, ...] = (0,) * len(self.layers)
        self.exits: tuple[float, ...] = (inf,) * (len(self.layers) - 1)

    def step(self, x: Sequence[int], label: int | None = None) -> list[NaiveTrace]:
        """One sample through all layers, which then learn if it is labelled; if not, it stops where one is sure."""
        traces = []
        for layer, lead in zip(self.layers, [*self.exits, inf], strict=True):
            traces.append(layer.infer(x, label))
            x = traces[-1].activations
            if label is None and layer.leads_by(lead, traces[-1].scores):
                self.layers[len(traces)].counters["events"] += sum(activation > 0 for activation in x) + 1
                break
        if self.spec.sum_scores and len(traces) == len(self.layers):
            (below, last), layers = traces[-2:], self.layers[-2:]
            # In units of each classifier's temperature, which is what makes scores of two comparable.
            sums = [
                Fraction(one, layers[0].temperature) + Fraction(other, layers[1].temperature)
                for one, other in zip(below.scores, last.scores, strict=True)
            ]
            traces[-1] = replace(last, predicted=sums.index(max(sums)))
        errors = [
            traces[-1].error if layer.classifier.error == "top" else t.error
            for layer, t in zip(self.layers, traces, strict=False)
        ]
        for number, (layer, error) in enumerate(zip(self.layers, errors, strict=False)):
            if error is not None:
                layer.learn(traces[number], error, self.decay[number])
                traces[number] = replace(traces[number], error=error)
        return traces
