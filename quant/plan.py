"""Everything that follows from the description of a network.

RTL, golden model and host size themselves from here, from the layers' plans, and nowhere else.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import SpecError
from locallearn.quant.layer_plan import SAMPLES_HELD, LayerPlan
from locallearn.quant.layer_spec import ConvSpec, decay_bits, decay_fraction
from locallearn.quant.spec import NetworkSpec
from locallearn.quant.state import State

__all__ = ["NetworkPlan"]


@dataclass(frozen=True)
class NetworkPlan:
    """The derived numbers of the whole network."""

    spec: NetworkSpec

    @cached_property
    def layers(self) -> tuple[LayerPlan, ...]:
        return tuple(_layer_plan(self.spec, index) for index in range(len(self.spec.layers)))

    @property
    def classes(self) -> int:
        return self.spec.classes

    @property
    def learned_matrices(self) -> tuple[LayerPlan, ...]:
        """The layers whose classifiers learn."""
        return tuple(plan for plan in self.layers if plan.classifier.learns)

    @cached_property
    def arrays(self) -> dict[str, tuple[int, int]]:
        """The shapes of all that is learned, by name: every layer's weights, biases last, then learned classifiers."""
        weights = {f"layer_{plan.index}": (plan.neurons, plan.fan_in) for plan in self.layers}
        matrices = {f"classifier_{plan.index}": (plan.features, plan.classes) for plan in self.learned_matrices}
        return weights | matrices

    def initial_state(self) -> State:
        """What a network begins with."""
        weights = [plan.initial_weights() for plan in self.layers]
        return State(
            weights + [plan.initial_matrix() for plan in self.learned_matrices],
            [plan.noise_seed for plan in self.layers],
            [plan.matrix_noise_seed for plan in self.layers],
            [plan.mask_seed for plan in self.layers],
        )

    @property
    def no_exits(self) -> tuple[int, ...]:
        """The leads of `exits` with which every sample goes through all layers."""
        return tuple(plan.no_exit for plan in self.layers[:-1])

    def exits(self, layer: int | None = None, odds: float | None = None) -> tuple[int, ...]:
        """The leads, best score over second, at which unlabelled samples stop at each layer but the last.

        layer  where all samples stop that have not before; None is the last one
        odds   1 or more: they stop where the best class is so many times as likely as the second, by a softmax;
               None, where nothing is likely enough. Scores say it in quarters of an octave, see `score_shift`

        Raises SpecError where there is no such layer or the odds are below 1.
        """
        if layer is not None and not 0 <= layer < len(self.layers):
            raise SpecError(f"exit layer {layer}: {self.spec.name} has layers 0 to {len(self.layers) - 1}")
        if odds is not None and not odds >= 1:
            raise SpecError(f"exit odds {odds:g}: must be at least 1")

        def lead(plan: LayerPlan) -> int:
            if plan.index == layer:
                return 0
            if odds is None or math.isinf(odds):
                return plan.no_exit
            return min(plan.no_exit, round(4 * math.log2(odds) * (1 << plan.score_shift)))

        return tuple(lead(plan) for plan in self.layers[:-1])

    @property
    def decay_fraction(self) -> int:
        """Fraction bits of the chip's decay, which layers share that have none of their own."""
        return decay_fraction(self.spec.training.decay)

    @property
    def decay_bits(self) -> int:
        """Width of that."""
        return decay_bits(self.spec.training.decay)

    def results_waiting(self, layer: int) -> int:
        """Results of a layer that can wait for the last layer's: it is ahead by as many samples as fit in between."""
        return (SAMPLES_HELD + 1) * (len(self.layers) - layer)

    @property
    def weight_bits(self) -> int:
        """Memory for all weights, in bits."""
        return sum(p.weight_rows * p.lanes * p.weight_format.bits for p in self.layers)

    @property
    def event_bits(self) -> int:
        """Memory for all event buffers, in bits."""
        return sum(p.event_depth * p.event_bits for p in self.layers)

    @property
    def dense_cycles(self) -> int:
        """Cycles of the slowest layer's forward pass over a sample without a single zero."""
        return max(p.window_numbers * p.groups for p in self.layers)


def _layer_plan(spec: NetworkSpec, index: int) -> LayerPlan:
    kind = ConvPlan if isinstance(spec.layers[index], ConvSpec) else LayerPlan
    return kind(spec, index)
