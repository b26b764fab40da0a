"""A dense layer's arithmetic: accumulate, requantise, and update with stochastic rounding."""

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.layer_plan import LayerPlan, see_noise
from locallearn.quant.lfsr import LeapingLfsr

__all__ = ["DenseWeights"]

Ints = NDArray[np.int64]


class DenseWeights:
    """The weight memory of one dense layer with the two passes that use it, event by event as on the chip.

    An event is a non-zero input; `index` (n,) and `value` (n,) list a sample's events in order, the bias last.
    """

    def __init__(self, plan: LayerPlan) -> None:
        self.plan = plan
        # 32-bit products and sums wherever they are exact: half the memory traffic of 64.
        self._dtype = np.int32 if plan.accumulator_bits <= 32 else np.int64
        # (fan_in, groups, lanes), so that an event's weights lie side by side.
        self._memory = np.zeros((plan.fan_in, plan.groups, plan.lanes), self._dtype)

    @property
    def weights(self) -> NDArray[np.int32]:
        """Shape (neurons, fan_in), biases last; a copy."""
        plan = self.plan
        flat = self._memory.reshape(plan.fan_in, -1)[:, : plan.neurons]
        return flat.T.astype(np.int32)

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        plan = self.plan
        self._memory.reshape(plan.fan_in, -1)[:, : plan.neurons] = weights.T

    def forward(self, index: Ints, value: Ints) -> Ints:
        """Activations, shape (neurons,): accumulate exactly, round half up, ReLU, clamp to the format."""
        plan = self.plan
        columns = self._memory.reshape(plan.fan_in, -1)[index]
        accumulator = (value.astype(self._dtype) @ columns)[: plan.neurons].astype(np.int64)
        shift = plan.requantise_shift
        rounded = (accumulator + (1 << shift >> 1)) >> shift
        activations: Ints = np.clip(rounded, 0, plan.output_format.max)
        return activations

    def learn(self, index: Ints, value: Ints, scaled_error: Ints, noise: LeapingLfsr) -> tuple[int, int]:
        """W = saturate(W - ((x g + noise) >> update_shift)) for every event x and neuron error g.

        Groups of lanes whose errors are all 0 are passed over. The noise register moves on once for every
        word (group, event) that is really processed, in that order; lanes see its state rotated.

        Returns (words processed, weights that were clipped).
        """
        plan = self.plan
        g = np.zeros((plan.groups, plan.lanes), np.int64)
        g.reshape(-1)[: plan.neurons] = scaled_error
        live = np.flatnonzero(g.any(axis=1))
        words = noise.take(len(live) * len(index)).reshape(len(live), len(index))
        random = see_noise(words, plan.lanes, plan.noise_bits)
        product = value[:, None] * g[live][:, None, :]
        delta = (product + plan.noise_value(random)) >> plan.update_shift
        where = (index[None, :], live[:, None])
        exact = self._memory[where] - delta
        clipped = np.clip(exact, plan.weight_format.min, plan.weight_format.max)
        self._memory[where] = clipped
        return len(live) * len(index), int((clipped != exact).sum())
