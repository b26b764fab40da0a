"""The golden model compiled by numba: the same integers as `network.GoldenNetwork`, many times faster.

`dense.py`, `conv.py`, `classifier.py` and `network.py` define the arithmetic; the compiled layers repeat it as loops
over plain arrays, and tests hold the two equal. No layer waits for one above, so a batch passes layer by layer and one
layer's weights stay in the processor's cache; only where layers learn from the last one's error, samples pass one by
one. Compiled code is kept on disk between runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.fast_conv import FastConv
from locallearn.quant.fast_dense import FastDense
from locallearn.quant.fast_layer import FastLayer
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import BatchTrace, LayerCounters, Model, Pixels
from locallearn.quant.spec import NetworkSpec

__all__ = ["FastNetwork"]

Ints = NDArray[np.int64]


class FastNetwork(Model):
    """`GoldenNetwork`, compiled. The first one on a machine is: that takes some seconds."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self._layers = [_compiled_layer(plan) for plan in self.plan.layers]
        self._waiting = [layer for layer in self._layers if layer.plan.classifier.error == "top"]
        # Compiles, or loads what was compiled before; no batch has to wait for it.
        self.run(np.zeros((0, spec.input.size), np.int8 if spec.input.signed else np.uint8))

    def run(self, x: Pixels, labels: Ints | None = None) -> BatchTrace:
        self._check(x, labels)
        # Of one type and without gaps: each other kind of array would be compiled for anew.
        x = np.ascontiguousarray(x, np.int8 if self.spec.input.signed else np.uint8)
        labels = np.full(len(x), -1) if labels is None else np.ascontiguousarray(labels, np.int64)
        if not self._waiting or not len(x):
            return self._run(x, labels)
        traces = [self._run(x[k : k + 1], labels[k : k + 1]) for k in range(len(x))]
        activations = [np.concatenate(parts) for parts in zip(*(trace.activations for trace in traces), strict=True)]
        predicted, error_size, answered = (
            np.concatenate([getattr(trace, name) for trace in traces])
            for name in ("predicted", "error_size", "answered")
        )
        return BatchTrace(activations, predicted, error_size, answered)

    def _run(self, x: Pixels, labels: Ints) -> BatchTrace:
        """Layer by layer; where layers wait for the last one's error, a single sample."""
        shape = (len(x), len(self._layers))
        activations = [np.zeros((len(x), plan.outputs), np.uint8) for plan in self.plan.layers]
        predicted, error_size = np.zeros((2, *shape), np.int64)
        # Which samples have come so far.
        here: Any = slice(None)
        answered = np.full(len(x), shape[1] - 1)
        scores = np.zeros((0, 0), np.int64)
        for index, layer in enumerate(self._layers):
            batch = layer.run(x, labels[here], layer not in self._waiting, self.decay[index])
            activations[index][here] = x = batch.activations
            predicted[here, index:] = batch.predicted[:, None]
            if layer.plan.sums_scores:
                below = self._layers[index - 1].plan
                predicted[here, index] = classifier.summed(layer.plan, batch.scores, below, scores).argmax(axis=1)
            scores = batch.scores
            error_size[here, index] = batch.error_size
            if layer.plan.can_exit:
                stops = (labels[here] < 0) & (batch.leads >= self.exits[index])
                came = np.arange(len(labels))[here]
                answered[came[stops]] = index
                self._layers[index + 1].pass_over(x[stops])
                here, x = came[~stops], x[~stops]
                scores = scores[~stops] if layer.plan.scores_are_summed else scores
        if labels.max(initial=-1) >= 0:
            for layer in self._waiting:
                index = layer.plan.index
                layer.learn_last(self._layers[-1].error, error_size[0, -1], self.decay[index])
                error_size[:, index] = error_size[:, -1]
        return BatchTrace(activations, predicted, error_size, answered)

    @property
    def weights(self) -> list[NDArray[np.int32]]:
        matrices = [self._layers[plan.index].matrix for plan in self.plan.learned_matrices]
        return [layer.weights for layer in self._layers] + matrices

    @weights.setter
    def weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        learners = [self._layers[plan.index] for plan in self.plan.learned_matrices]
        for layer, values in zip(self._layers, weights[: len(self._layers)], strict=True):
            layer.weights = values
        for layer, values in zip(learners, weights[len(self._layers) :], strict=True):
            layer.matrix = values

    @property
    def noise_states(self) -> list[int]:
        return [layer.noise_state for layer in self._layers]

    @noise_states.setter
    def noise_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self._layers, states, strict=True):
            layer.noise_state = state

    @property
    def matrix_noise_states(self) -> list[int]:
        return [layer.matrix_noise_state for layer in self._layers]

    @matrix_noise_states.setter
    def matrix_noise_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self._layers, states, strict=True):
            layer.matrix_noise_state = state

    @property
    def mask_states(self) -> list[int]:
        return [layer.mask_state for layer in self._layers]

    @mask_states.setter
    def mask_states(self, states: Sequence[int]) -> None:
        for layer, state in zip(self._layers, states, strict=True):
            layer.mask_state = state

    @property
    def counters(self) -> list[LayerCounters]:
        return [layer.counters for layer in self._layers]

    def clear_counters(self) -> None:
        for layer in self._layers:
            layer.clear_counters()


def _compiled_layer(plan: LayerPlan) -> FastLayer:
    return FastConv(plan) if isinstance(plan, ConvPlan) else FastDense(plan)
