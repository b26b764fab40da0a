"""What dense and convolutional layers of the compiled model have in common; see `fast.py`."""

import math
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.fast_kernels import EVENTS, HINGE, LABEL, SOFTMAX, Batch, Decay, Numbers, Scratch, State
from locallearn.quant.layer_plan import MASK_LEAP, NOISE_LEAP, LayerPlan, lane_rotation
from locallearn.quant.layer_spec import DECAY_STEPS
from locallearn.quant.lfsr import STATE_BITS, LeapingLfsr
from locallearn.quant.network import LayerCounters, Pixels

__all__ = ["FastLayer", "empty_batch", "split_decay"]

Ints = NDArray[np.int64]


class FastLayer(ABC):
    """One layer's state, and its plan in the compiled code's terms.

    Its arrays have room for so many `columns` of weights and so many `features`.
    """

    def __init__(self, plan: LayerPlan, columns: int, features: int, dtype: type[Any]) -> None:
        self.plan = plan
        if plan.classifier.learns:
            drawn = [plan.initial_matrix().astype(np.int64)]
        else:
            drawn = [*classifier.matrices(plan, plan.classifier_seed, plan.feedback_seed)]
        matrices = np.zeros((len(drawn), plan.classes, features), np.int32)
        for entries, numbers in zip(matrices, drawn, strict=True):
            entries[:, : plan.features] = numbers.T
        self._state = State(
            np.zeros((plan.fan_in, columns), dtype),
            matrices[0],
            matrices[-1],
            _first_words(plan.noise_seed, NOISE_LEAP, plan.weight_rows),
            _first_words(plan.matrix_noise_seed, NOISE_LEAP, plan.features),
            _first_words(plan.mask_seed, MASK_LEAP, plan.neurons),
            np.zeros(len(fields(LayerCounters)), np.int64),
        )
        self.weights = plan.initial_weights()
        self._scratch = Scratch(
            inputs=np.zeros(plan.fan_in, np.int64),
            values=np.zeros(plan.fan_in, np.int32),
            sums=np.zeros(columns, np.int32 if plan.accumulator_bits <= 32 else np.int64),
            features=np.zeros(features, np.int32),
            scores=np.zeros(plan.classes, np.int32),
            error=np.zeros(plan.classes, np.int32),
            gradient=np.zeros(features, np.int32),
            rotation=_rotations(plan.lanes),
            class_rotation=_rotations(plan.classes),
            noise=np.zeros(columns, np.int32),
            clipped=np.zeros(columns, np.int32),
            first=np.zeros(plan.groups, np.int64),
        )
        self._numbers = Numbers(
            plan.inputs,
            plan.neurons,
            plan.lanes,
            plan.groups,
            plan.input_format.half,
            plan.features,
            plan.requantise_shift,
            plan.output_format.max,
            plan.score_shift,
            _error_rule(plan),
            plan.error_bits,
            plan.margin_shift,
            plan.update_shift,
            plan.noise_bits,
            plan.dropped,
            plan.can_exit,
            plan.scores_are_summed,
            plan.classifier.learns,
            plan.classifier.format.fraction,
            plan.score_drop,
            plan.matrix_update_shift,
            plan.matrix_noise_bits,
            plan.classifier.format.max,
            plan.max_decay,
            plan.weight_format.min,
            plan.weight_format.max,
            plan.frozen == "all",
            plan.frozen == "weights",
        )

    @property
    def weights(self) -> NDArray[np.int32]:
        return self._state.memory[:, : self.plan.neurons].T.astype(np.int32)

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        self._state.memory[:, : self.plan.neurons] = weights.T

    @property
    def matrix(self) -> NDArray[np.int32]:
        """Of the classifier, shape (features, classes); a copy."""
        return self._state.matrix[:, : self.plan.features].T.copy()

    @matrix.setter
    def matrix(self, matrix: NDArray[np.int32]) -> None:
        self._state.matrix[:, : self.plan.features] = matrix.T

    @property
    def noise_state(self) -> int:
        return int(self._state.words[0])

    @noise_state.setter
    def noise_state(self, state: int) -> None:
        self._state.words[:STATE_BITS] = _known_words(state, NOISE_LEAP)

    @property
    def matrix_noise_state(self) -> int:
        return int(self._state.matrix_words[0])

    @matrix_noise_state.setter
    def matrix_noise_state(self, state: int) -> None:
        self._state.matrix_words[:STATE_BITS] = _known_words(state, NOISE_LEAP)

    @property
    def mask_state(self) -> int:
        return int(self._state.mask[0])

    @mask_state.setter
    def mask_state(self, state: int) -> None:
        self._state.mask[:STATE_BITS] = _known_words(state, MASK_LEAP)

    @property
    def counters(self) -> LayerCounters:
        return LayerCounters(*self._state.counters.tolist())

    def clear_counters(self) -> None:
        self._state.counters[:] = 0

    @abstractmethod
    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> Batch:
        """Samples x (n, inputs), of which it `learns` from those with a label that is not negative."""

    @abstractmethod
    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        """From the last sample and another layer's error."""

    def pass_over(self, x: Pixels) -> None:
        """Samples (n, inputs) that stopped at the layer before."""
        self._state.counters[EVENTS] += np.count_nonzero(x) + len(x)

    @property
    def error(self) -> NDArray[np.int32]:
        """Of the last labelled sample, shape (classes,)."""
        return self._scratch.error


def empty_batch(plan: LayerPlan, samples: int) -> Batch:
    """What `run` fills."""
    predicted, error_size, leads = np.zeros((3, samples), np.int64)
    scores = np.zeros((samples if plan.scores_are_summed else 0, plan.classes), np.int64)
    return Batch(np.zeros((samples, plan.outputs), np.uint8), predicted, error_size, leads, scores)


def split_decay(decay: float) -> Decay:
    """As compiled code takes it."""
    rounded = math.ceil(decay)
    return Decay(rounded, round(DECAY_STEPS * (rounded - decay)))


def _error_rule(plan: LayerPlan) -> int:
    if plan.classifier.error == "label":
        return LABEL
    return HINGE if plan.classifier.loss == "squared-hinge" else SOFTMAX


def _rotations(lanes: int) -> NDArray[np.uint64]:
    return np.array([lane_rotation(lane) for lane in range(lanes)], np.uint64)


def _first_words(seed: int, leap: int, most: int) -> NDArray[np.uint64]:
    """Room for `most` words and the 64 behind them, of which the first 64 are known."""
    words = np.zeros(most + STATE_BITS, np.uint64)
    words[:STATE_BITS] = _known_words(seed, leap)
    return words


def _known_words(state: int, leap: int) -> NDArray[np.uint64]:
    """The next 64 states of a register."""
    return LeapingLfsr(state, leap).take(STATE_BITS)
