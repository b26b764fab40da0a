"""The golden model: the definition of what the chip computes, sample by sample, in integers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.conv import ConvWeights, average
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.dense import DenseWeights
from locallearn.quant.layer_plan import MASK_LEAP, NOISE_LEAP, LayerPlan
from locallearn.quant.layer_spec import decay_fraction
from locallearn.quant.lfsr import LeapingLfsr
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec
from locallearn.quant.state import State

__all__ = [
    "BatchTrace",
    "GoldenLayer",
    "GoldenNetwork",
    "LayerCounters",
    "LayerTrace",
    "Model",
    "check_decay",
    "check_exits",
    "quantise_pixels",
]

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8 | np.int8]
"""Integers of the input format: int8 where it is signed."""


@dataclass
class LayerCounters:
    """What a layer did, as its chip counters say; every one is defined by the data, none by timing.

    events         non-zero inputs, one bias a sample included; those of samples too that stop at the layer before,
                   as they have been passed on by then
    words_read     weight words (a row of all lanes) read by forward and learn
    words_written  weight words written by learn
    gradients      of a convolution, inputs that are not 0 times the groups that learn from them, at all places
    learned        samples whose learn phase ran
    skipped        labelled samples without any error, or all where the layer is frozen, so without a learn phase
    saturated      weights that an update clipped
    """

    events: int = 0
    words_read: int = 0
    words_written: int = 0
    gradients: int = 0
    learned: int = 0
    skipped: int = 0
    saturated: int = 0


@dataclass(frozen=True)
class LayerTrace:
    """What a layer made of one sample.

    event_index, event_value  (n,): its non-zero inputs and the bias, in order
    activations               (outputs,)
    features                  (features,): what the classifier sees of them, of a dense layer all
    winners                   (outputs,): of a convolution, which place of its pool each activation comes from
    scores                    (classes,): S or S' of `classifier`
    predicted                 the class with the largest score, or sum of scores
    error                     (classes,): what the layer learns from, or None where there was no label
    error_size                of that, see `classifier.error_size`; 0 without a label
    """

    event_index: Ints
    event_value: Ints
    activations: Ints
    features: Ints
    winners: Ints | None
    scores: Ints
    predicted: int
    error: Ints | None = None
    error_size: int = 0


@dataclass(frozen=True)
class BatchTrace:
    """What a network made of n samples.

    activations  of every layer, shape (n, outputs); 0 beyond the layer that a sample stopped at
    predicted    (n, layers); beyond that layer what it said
    error_size   (n, layers), see `LayerTrace`
    answered     (n,): the layer that a sample stopped at, the last one where it went all the way
    """

    activations: list[NDArray[np.uint8]]
    predicted: Ints
    error_size: Ints
    answered: Ints


class Model(ABC):
    """A network in software that does what the chip does, bit for bit.

    `decay` is what every layer's learning rate's shift has grown by, in steps of 1 / 256, and `exits` are the
    leads at which unlabelled samples stop, see `NetworkPlan.exits`, both from the next sample on.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.plan = NetworkPlan(spec)
        self.decay: tuple[float, ...] = (0,) * len(spec.layers)
        self.exits = self.plan.no_exits

    @abstractmethod
    def run(self, x: Pixels, labels: Ints | None = None) -> BatchTrace:
        """Samples (n, inputs) as `quantise_pixels` makes them, in order, learning from each if labelled (n,).

        Raises ValueError where samples, labels, `decay` or `exits` do not fit the network.
        """

    @property
    @abstractmethod
    def weights(self) -> list[NDArray[np.int32]]:
        """All that is learned, as `NetworkPlan.arrays` lists it; copies."""

    @weights.setter
    @abstractmethod
    def weights(self, weights: Sequence[NDArray[np.int32]]) -> None: ...

    @property
    @abstractmethod
    def noise_states(self) -> list[int]:
        """Of every layer's noise register."""

    @noise_states.setter
    @abstractmethod
    def noise_states(self, states: Sequence[int]) -> None: ...

    @property
    @abstractmethod
    def matrix_noise_states(self) -> list[int]:
        """Of every layer's register for a classifier that learns, whether it does or not."""

    @matrix_noise_states.setter
    @abstractmethod
    def matrix_noise_states(self, states: Sequence[int]) -> None: ...

    @property
    @abstractmethod
    def mask_states(self) -> list[int]:
        """Of every layer's dropout mask, whether it has one or not."""

    @mask_states.setter
    @abstractmethod
    def mask_states(self, states: Sequence[int]) -> None: ...

    @property
    def state(self) -> State:
        """All that learning changes; a copy."""
        return State(self.weights, self.noise_states, self.matrix_noise_states, self.mask_states)

    @state.setter
    def state(self, state: State) -> None:
        self.weights = state.arrays
        self.noise_states = state.noise
        self.matrix_noise_states = state.matrix_noise
        self.mask_states = state.masks

    @property
    @abstractmethod
    def counters(self) -> list[LayerCounters]:
        """Of every layer, since they were last cleared."""

    @abstractmethod
    def clear_counters(self) -> None: ...

    def _check(self, x: Pixels, labels: Ints | None) -> None:
        form = self.spec.input.format
        if x.shape[1:] != (self.spec.input.size,) or x.max(initial=0) > form.max or x.min(initial=0) < form.min:
            raise ValueError(f"a sample is {self.spec.input.size} numbers of {self.spec.input.bits} bits")
        if labels is not None:
            if labels.shape != x.shape[:1]:
                raise ValueError(f"{len(x)} samples, but labels of shape {labels.shape}: one a sample is needed")
            wrong = labels[(labels < 0) | (labels >= self.spec.classes)]
            if wrong.size:
                raise ValueError(f"label {wrong[0]}: must be between 0 and {self.spec.classes - 1}")
        check_decay(self.spec, self.decay)
        check_exits(self.plan, self.exits)


class GoldenLayer(ABC):
    """One layer with its local classifier and its own rounding noise."""

    memory: DenseWeights | ConvWeights

    def __init__(self, plan: LayerPlan) -> None:
        self.plan = plan
        self.noise = LeapingLfsr(plan.noise_seed, NOISE_LEAP)
        self.matrix_noise = LeapingLfsr(plan.matrix_noise_seed, NOISE_LEAP)
        self.mask = LeapingLfsr(plan.mask_seed, MASK_LEAP)
        self.counters = LayerCounters()
        if plan.classifier.learns:
            self.matrix = self._feedback = plan.initial_matrix().astype(np.int64)
        else:
            self.matrix, self._feedback = classifier.matrices(plan, plan.classifier_seed, plan.feedback_seed)

    @abstractmethod
    def infer(self, x: Ints, drop: bool) -> LayerTrace:
        """What the layer makes of one sample, shape (inputs,), with or without dropout."""

    @abstractmethod
    def update(self, trace: LayerTrace, scaled_error: Ints) -> tuple[int, int]:
        """The weights, from an error (features,). Returns (words processed, weights that were clipped)."""

    def _events(self, x: Ints) -> tuple[Ints, Ints]:
        """Inputs that are not 0, and the bias: index and value."""
        (index,) = x.nonzero()
        self.counters.events += len(index) + 1
        return np.append(index, self.plan.inputs), np.append(x[index], self.plan.input_format.half)

    def error(self, trace: LayerTrace, label: int) -> Ints:
        """Of the layer's own classifier, shape (classes,); minus the label where that is what the layer learns from."""
        return classifier.error(self.plan, trace.scores, label)

    def learn(self, trace: LayerTrace, error: Ints, decay: float) -> LayerTrace:
        """Learn from the sample with this error. Returns the trace with it."""
        plan, counters = self.plan, self.counters
        if plan.frozen != "all" and error.any():
            projected = classifier.back_project(plan, self._feedback, error)
            if plan.frozen == "weights":
                # Nothing comes back to the neurons.
                projected[:] = 0
            scale = plan.max_decay - plan.decay_shift(decay, self.noise.state)
            words, clipped = self.update(trace, projected << scale)
            counters.learned += 1
            counters.words_read += words
            counters.words_written += words
            counters.saturated += clipped
            if plan.classifier.learns:
                self.matrix[:] = classifier.learn(plan, self.matrix, error << scale, trace.features, self.matrix_noise)
        else:
            counters.skipped += 1
        return replace(trace, error=error, error_size=classifier.error_size(plan, error))


class GoldenDense(GoldenLayer):
    """A dense layer."""

    memory: DenseWeights

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        self.memory = DenseWeights(plan)
        self.memory.weights = plan.initial_weights()

    def infer(self, x: Ints, drop: bool) -> LayerTrace:
        plan = self.plan
        index, value = self._events(x)
        activations = self.memory.forward(index, value)
        if drop and plan.dropped:
            activations[(self.mask.take(plan.neurons) & np.uint64(0xFF)) < plan.dropped] = 0
        scores = classifier.scores(plan, self.matrix, activations)
        self.counters.words_read += len(index) * plan.groups
        return LayerTrace(index, value, activations, activations, None, scores, classifier.classify(scores))

    def update(self, trace: LayerTrace, scaled_error: Ints) -> tuple[int, int]:
        error = scaled_error * (trace.activations > 0)
        return self.memory.learn(trace.event_index, trace.event_value, error, self.noise)


class GoldenConv(GoldenLayer):
    """A convolutional layer."""

    plan: ConvPlan
    memory: ConvWeights

    def __init__(self, plan: ConvPlan) -> None:
        super().__init__(plan)
        self.memory = ConvWeights(plan)
        self.memory.weights = plan.initial_weights()

    def infer(self, x: Ints, drop: bool) -> LayerTrace:
        plan = self.plan
        index, value = self._events(x)
        windows = self.memory.windows(x)
        activations, winners = self.memory.forward(windows)
        features = average(plan, activations)
        scores = classifier.scores(plan, self.matrix, features)
        self.counters.words_read += plan.groups * int(np.count_nonzero(windows))
        return LayerTrace(index, value, activations, features, winners, scores, classifier.classify(scores))

    def update(self, trace: LayerTrace, scaled_error: Ints) -> tuple[int, int]:
        assert trace.winners is not None
        x = np.zeros(self.plan.inputs, np.int64)
        x[trace.event_index[:-1]] = trace.event_value[:-1]
        windows = self.memory.windows(x)
        words, clipped = self.memory.learn(windows, trace.activations, trace.winners, scaled_error, self.noise)
        self.counters.gradients += words // self.plan.fan_in * int(np.count_nonzero(windows))
        return words, clipped


def _golden_layer(plan: LayerPlan) -> GoldenLayer:
    return GoldenConv(plan) if isinstance(plan, ConvPlan) else GoldenDense(plan)


class GoldenNetwork(Model):
    """All layers, each learning from every sample at once: nothing waits for an error from above."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.layers = [_golden_layer(plan) for plan in self.plan.layers]

    def step(self, x: Pixels, label: int | None = None) -> list[LayerTrace]:
        """One sample, shape (inputs,) as `quantise_pixels` makes it, through all layers; learns if labelled.

        Returns the layers' traces, without a label down to the one that it stopped at. Raises ValueError where
        sample, label, `decay` or `exits` do not fit the network.
        """
        self._check(x[np.newaxis], None if label is None else np.array([label]))
        return self._step(x, label)

    def _step(self, x: Pixels, label: int | None) -> list[LayerTrace]:
        traces: list[LayerTrace] = []
        activations = x.astype(np.int64)
        for layer in self.layers:
            traces.append(layer.infer(activations, drop=label is not None))
            activations = traces[-1].activations
            if (
                label is None
                and layer.plan.can_exit
                and classifier.lead(traces[-1].scores) >= self.exits[layer.plan.index]
            ):
                # They have been passed on, with the bias that says that they are not wanted.
                self.layers[layer.plan.index + 1].counters.events += int(np.count_nonzero(activations)) + 1
                break
        if self.spec.sum_scores and len(traces) == len(self.layers):
            (below, last), plans = traces[-2:], self.plan.layers[-2:]
            sums = classifier.summed(plans[1], last.scores, plans[0], below.scores)
            traces[-1] = replace(last, predicted=classifier.classify(sums))
        if label is None:
            return traces
        errors = [layer.error(trace, label) for layer, trace in zip(self.layers, traces, strict=True)]
        return [
            layer.learn(trace, errors[-1] if layer.plan.classifier.error == "top" else error, decay)
            for layer, trace, error, decay in zip(self.layers, traces, errors, self.decay, strict=True)
        ]

    def run(self, x: Pixels, labels: Ints | None = None) -> BatchTrace:
        self._check(x, labels)
        traces = [self._step(sample, None if labels is None else int(labels[k])) for k, sample in enumerate(x)]
        shape = (len(x), len(self.layers))
        batch = BatchTrace(
            [np.zeros((len(x), plan.outputs), np.uint8) for plan in self.plan.layers],
            np.zeros(shape, np.int64),
            np.zeros(shape, np.int64),
            np.array([len(trace) - 1 for trace in traces], np.int64),
        )
        for k, trace in enumerate(traces):
            for index, layer in enumerate(trace):
                batch.activations[index][k] = layer.activations
                batch.predicted[k, index:] = layer.predicted
                batch.error_size[k, index] = layer.error_size
        return batch

    @property
    def weights(self) -> list[NDArray[np.int32]]:
        matrices = [self.layers[plan.index].matrix.astype(np.int32) for plan in self.plan.learned_matrices]
        return [layer.memory.weights for layer in self.layers] + matrices

    @weights.setter
    def weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        learners = [self.layers[plan.index] for plan in self.plan.learned_matrices]
        for layer, values in zip(self.layers, weights[: len(self.layers)], strict=True):
            layer.memory.weights = values
        for layer, values in zip(learners, weights[len(self.layers) :], strict=True):
            layer.matrix[:] = values

    @property
    def noise_states(self) -> list[int]:
        return [layer.noise.state for layer in self.layers]

    @noise_states.setter
    def noise_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self.layers, states, strict=True):
            layer.noise.state = state

    @property
    def matrix_noise_states(self) -> list[int]:
        return [layer.matrix_noise.state for layer in self.layers]

    @matrix_noise_states.setter
    def matrix_noise_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self.layers, states, strict=True):
            layer.matrix_noise.state = state

    @property
    def mask_states(self) -> list[int]:
        return [layer.mask.state for layer in self.layers]

    @mask_states.setter
    def mask_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self.layers, states, strict=True):
            layer.mask.state = state

    @property
    def counters(self) -> list[LayerCounters]:
        return [layer.counters for layer in self.layers]

    def clear_counters(self) -> None:
        for layer in self.layers:
            layer.counters = LayerCounters()


def check_decay(spec: NetworkSpec, decay: Sequence[float]) -> None:
    """Raises ValueError where there is not one for every layer, or it is not one that the layer can have."""
    limits = [spec.max_decay(layer) for layer in range(len(spec.layers))]
    if len(decay) != len(limits) or any(not 0 <= d <= limit for d, limit in zip(decay, limits, strict=True)):
        raise ValueError(f"decay {tuple(decay)}: of every layer, at least 0 and at most {tuple(limits)}")
    for layer, entry in enumerate(decay):
        step = 2.0 ** -decay_fraction(spec.decay(layer))
        if entry % step:
            raise ValueError(f"decay {tuple(decay)}: of layer {layer} in steps of {step:g}")


def check_exits(plan: NetworkPlan, exits: Sequence[int]) -> None:
    """Raises ValueError where there is not one for every layer but the last, or samples cannot stop there at all."""
    if len(exits) != len(plan.no_exits) or any(
        not 0 <= lead <= none for lead, none in zip(exits, plan.no_exits, strict=True)
    ):
        raise ValueError(f"exits {tuple(exits)}: of every layer but the last, at least 0 and at most {plan.no_exits}")
    if not plan.spec.early_exit and tuple(exits) != plan.no_exits:
        raise ValueError(f"exits {tuple(exits)}: {plan.spec.name} has no early_exit")


def quantise_pixels(spec: NetworkSpec, pixels: NDArray[np.uint8]) -> Pixels:
    """8-bit pixels (n, inputs) of images, channels first, as integers of the input format in the network's order.

    Signed ones have 128 taken from them; low bits are dropped. Images of a shape get their channels last.
    """
    if spec.input.shape is not None and spec.input.shape[0] > 1:
        pixels = pixels.reshape(-1, *spec.input.shape).transpose(0, 2, 3, 1).reshape(len(pixels), -1)
    drop = 8 - spec.input.bits
    return (pixels ^ 0x80).view(np.int8) >> np.int8(drop) if spec.input.signed else pixels >> np.uint8(drop)
