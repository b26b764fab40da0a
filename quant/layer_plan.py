"""Everything that follows from the description of a layer: widths, depths, shifts, seeds, capacities.

RTL, golden model and host size themselves from here and nowhere else.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_spec import DECAY_STEPS, decay_bits, decay_fraction
from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.spec import NetworkSpec

__all__ = [
    "BANK_LANES",
    "ERROR_TABLE",
    "EVENT_MARGIN",
    "MASK_LEAP",
    "NOISE_LEAP",
    "SAMPLES_HELD",
    "SCORE_SLOTS",
    "LayerPlan",
    "lane_rotation",
    "see_noise",
]

ERROR_TABLE = tuple(round(256 * 2 ** (-u / 4)) for u in range(36))
"""2^(-u/4) with 8 fraction bits; beyond the table it is 0. A quarter of an octave is fine enough for a softmax
whose result keeps 6 to 8 bits."""

NOISE_LEAP = 32
"""Steps of the noise register between two weight words; a power of two, see `lfsr.LeapingLfsr`."""

MASK_LEAP = 8
"""Steps of the mask's register between two neurons: a byte each."""

_NOISE_SPACING = 11
"""Odd, so that the rotations of 64 lanes all differ; more than the usual 8 noise bits, so neighbours share none."""

EVENT_MARGIN = 3
"""Words that an event buffer keeps free, since it decides early whether it takes another event."""

SAMPLES_HELD = 4
"""Samples that an event buffer can hold beside one another, room for their events permitting."""


SCORE_SLOTS = 1 << (2 * (SAMPLES_HELD + 1)).bit_length()
"""Samples whose scores can wait for the last layer's: more than the layer before can be ahead by."""

BANK_LANES = 8
"""Lanes of a bank: so few that one register reaches all of them and their memory within a cycle."""


def lane_rotation(lane: int) -> int:
    """How far a lane sees the shared noise word rotated right."""
    return lane * _NOISE_SPACING % 64


def see_noise(words: NDArray[np.uint64], lanes: int, bits: int) -> NDArray[np.int64]:
    """The low bits of noise words as so many lanes see them rotated; shape (..., lanes)."""
    rotation = np.array([lane_rotation(lane) for lane in range(lanes)], np.uint64)
    # No shift by 64 in NumPy: rotate left by (64 - r) mod 64, which is 0 for r = 0.
    rotated = words[..., None] >> rotation | words[..., None] << (-rotation & np.uint64(63))
    return (rotated & np.uint64((1 << bits) - 1)).astype(np.int64)


def _noise_fraction(word: NDArray[np.int64], bits: int, shift: int) -> NDArray[np.int64]:
    """Random words of so many bits as the fractions that are added before a shift.

    Words sit at the top of the bits shifted away. Where room is left below, a one there makes them the middles of
    their intervals, so that the mean is exactly one half.
    """
    spare = shift - bits
    return word << spare | (1 << spare >> 1)


@dataclass(frozen=True)
class LayerPlan:
    """The derived numbers of layer `index`. Widths are in bits, depths in words."""

    spec: NetworkSpec
    index: int

    @property
    def inputs(self) -> int:
        """Inputs, the bias's constant not counted."""
        return self.spec.inputs(self.index)

    @property
    def outputs(self) -> int:
        """What goes on to the next layer."""
        return self.spec.outputs(self.index)

    @property
    def features(self) -> int:
        """What the classifier sees."""
        return self.spec.features(self.index)

    @property
    def neurons(self) -> int:
        return self.spec.layers[self.index].neurons

    @property
    def lanes(self) -> int:
        return self.spec.layers[self.index].lanes

    @property
    def classes(self) -> int:
        return self.spec.classes

    @property
    def class_bits(self) -> int:
        """Width of a class's number."""
        return (self.classes - 1).bit_length()

    @property
    def input_format(self) -> QFormat:
        return self.spec.input_format(self.index)

    @property
    def output_format(self) -> QFormat:
        return self.spec.activation

    @property
    def weight_format(self) -> QFormat:
        return self.spec.weight

    @property
    def banks(self) -> tuple[range, ...]:
        """The lanes of each bank."""
        return tuple(range(first, min(first + BANK_LANES, self.lanes)) for first in range(0, self.lanes, BANK_LANES))

    @property
    def groups(self) -> int:
        """Passes over the events a sample: neurons / lanes, rounded up."""
        return -(-self.neurons // self.lanes)

    @property
    def fan_in(self) -> int:
        """Weights of a neuron, its bias (the last) included; of a dense layer also the most events of a sample."""
        return self.spec.fan_in(self.index) + 1

    @property
    def weight_rows(self) -> int:
        """Depth of the weight memory; a row holds one weight a lane, row group * fan_in + input."""
        return self.groups * self.fan_in

    @property
    def event_depth(self) -> int:
        """Words of the event buffer: a power of two with room for two samples without a single zero, all but those
        of the margin; one sample always fits beside it."""
        return 1 << max(2 * self.fan_in - 1, 2 * EVENT_MARGIN - 1).bit_length()

    @property
    def event_index_bits(self) -> int:
        """Width of an event's input number, the bias (the last) included."""
        return self.inputs.bit_length()

    @property
    def event_bits(self) -> int:
        """Width of a word of the event buffer, index above value."""
        return self.event_index_bits + self.input_format.bits

    @property
    def event_address_bits(self) -> int:
        return (self.event_depth - 1).bit_length()

    @property
    def places(self) -> int:
        """Where the weights are applied."""
        return 1

    @property
    def window_numbers(self) -> int:
        """What they meet there in a sample without a single zero, the biases' constants included."""
        return self.fan_in

    @property
    def error_group(self) -> int:
        """Features whose scaled errors come back in one go: one for every lane."""
        return self.lanes

    @property
    def error_groups(self) -> int:
        """How many of these there are."""
        return self.groups

    @property
    def accumulator_bits(self) -> int:
        """Signed; the worst sums fit, that with half an activation's unit included: accumulators never saturate."""
        inputs, form, weight = self.fan_in - 1, self.input_format, self.weight_format
        low = min(weight.min * form.max, weight.max * form.min) * inputs + weight.min * form.half
        high = max(weight.max * form.max, weight.min * form.min) * inputs + weight.max * form.half
        return max(~low, high + (1 << self.requantise_shift >> 1)).bit_length() + 1

    @property
    def requantise_shift(self) -> int:
        return self.weight_format.fraction + self.input_format.fraction - self.output_format.fraction

    @property
    def classifier(self) -> ClassifierSpec:
        return self.spec.layers[self.index].classifier

    @property
    def matrix_bits(self) -> int:
        """Random bits for a neuron's row of M."""
        return self.classes * len(self.classifier.matrix_weights)

    @property
    def feedback_bits(self) -> int:
        """Random bits for a neuron's row of K beyond those of M; a bit an entry is M's where K has its signs."""
        own = {"symmetric": 0, "sign-concordant": self.classifier.feedback_bits - 1}
        return self.classes * own.get(self.classifier.feedback, self.classifier.feedback_bits)

    @property
    def signed_scores(self) -> bool:
        """Scores can be negative: those of M, not of M', as the hinge knows where 0 is; or of a learned matrix."""
        return self.classifier.loss == "squared-hinge" or self.classifier.learns

    @property
    def signed_feedback(self) -> bool:
        """The error is brought back by K, not by K' which is half of it."""
        return not self.spec.projected_in_halves(self.index)

    @property
    def score_max(self) -> int:
        """The largest score, and where they are signed the largest negative."""
        entry = sum(self.classifier.matrix_weights)
        if self.classifier.learns:
            entry = 4 if self.classifier.loss == "squared-hinge" else 2
        return self.features * self.output_format.max * entry

    @property
    def score_drop(self) -> int:
        """Low bits that the scores of a learned matrix lose, for the units of those of a uniform one."""
        return self.classifier.format.fraction + (self.classifier.loss == "cross-entropy")

    @property
    def matrix_update_shift(self) -> int:
        return self.spec.matrix_update_shift(self.index)

    @property
    def matrix_error_width(self) -> int:
        """Signed width of an error scaled by the rate's decay."""
        return self.error_width + self.max_decay

    @property
    def matrix_operand_bits(self) -> tuple[int, int]:
        """Widths of a learned matrix's multipliers: activation or error's size, unsigned; entry or scaled error."""
        narrow = max(self.output_format.bits, self.error_bits + 1)
        return narrow, max(self.classifier.format.bits, self.matrix_error_width)

    @property
    def score_bits(self) -> int:
        return self.score_max.bit_length() + self.signed_scores

    @property
    def sums_scores(self) -> bool:
        """Scores of the layer before are added to its own to find its answer."""
        return self.spec.sum_scores and self.index == len(self.spec.layers) - 1

    @property
    def scores_are_summed(self) -> bool:
        """Its scores are one of the two."""
        return self.spec.sum_scores and self.index >= len(self.spec.layers) - 2

    @property
    def score_unit(self) -> int:
        """What is a unit to a softmax, as a power of two of the scores' units; to scores S twice as large as S'."""
        return self.score_shift + (self.classifier.loss == "squared-hinge")

    @property
    def can_exit(self) -> bool:
        """Unlabelled samples can stop here."""
        return self.spec.early_exit and self.index + 1 < len(self.spec.layers)

    @property
    def can_be_void(self) -> bool:
        """Unlabelled samples can have stopped at the layer before."""
        return self.spec.early_exit and self.index > 0

    @property
    def exit_bits(self) -> int:
        """Width of the lead, of the best score over the second, at which they do: one more than a lead's."""
        return self.score_bits + 1

    @property
    def no_exit(self) -> int:
        """A lead that no sample has."""
        return (1 << self.exit_bits) - 1

    @property
    def margin_shift(self) -> int:
        """The hinge's 1.0 is a score of 2^margin_shift: about what those of random activations spread over."""
        return self.score_shift + 5

    @property
    def score_shift(self) -> int:
        return self.spec.score_shift(self.index)

    @property
    def normaliser_bits(self) -> int:
        """Largest shift beyond 8 that stands in for the division by the softmax's sum: ceil(log2(classes))."""
        return self.class_bits

    @property
    def error_bits(self) -> int:
        """Fraction bits of an error; 1.0 is 2^error_bits."""
        return self.spec.error_fraction

    @property
    def error_width(self) -> int:
        """Signed width of an error's entry: -1.0 to 1.0, or to just within 2.0."""
        return self.error_bits + 2

    @property
    def error_size_bits(self) -> int:
        """Unsigned width of an error's size, see `classifier.error_size`."""
        return self.spec.error_size_max(self.index).bit_length()

    @property
    def max_decay(self) -> int:
        return self.spec.max_decay(self.index)

    @property
    def has_own_decay(self) -> bool:
        """What its learning rate's shift has grown by is the layer's, not the chip's."""
        return self.spec.layers[self.index].decay is not None

    @property
    def frozen(self) -> str:
        return self.spec.layers[self.index].frozen

    @property
    def frozen_bits(self) -> int:
        """Width of the register that says so: a flag for all, and one for the weights where a classifier learns."""
        return 1 + self.classifier.learns

    @property
    def frozen_flags(self) -> int:
        """What it says."""
        return {"no": 0, "all": 1, "weights": 2}[self.frozen]

    @property
    def dropped(self) -> int:
        """Of the 256 values of a neuron's byte of the mask, those that leave it out."""
        return round(256 * self.spec.layers[self.index].dropout)

    @property
    def scaled_error_width(self) -> int:
        """Signed width of the back-projected error after scaling by the rate's decay."""
        return self.spec.projection_max(self.index).bit_length() + 1 + self.max_decay

    @property
    def update_shift(self) -> int:
        return self.spec.update_shift(self.index)

    @property
    def noise_bits(self) -> int:
        """Random bits that the update uses: never more than it shifts away."""
        return min(self.spec.noise_bits, self.update_shift)

    def noise_value(self, word: NDArray[np.int64]) -> NDArray[np.int64]:
        """Random words of `noise_bits` as the fractions that the update adds, at any array shape."""
        return _noise_fraction(word, self.noise_bits, self.update_shift)

    @property
    def matrix_noise_bits(self) -> int:
        """The same as `noise_bits`, of a learned matrix."""
        return min(self.spec.noise_bits, self.matrix_update_shift)

    def matrix_noise_value(self, word: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same as `noise_value`, of a learned matrix."""
        return _noise_fraction(word, self.matrix_noise_bits, self.matrix_update_shift)

    @property
    def decay_fraction(self) -> int:
        """Fraction bits of what the learning rate's shift has grown by, see `decay_shift`."""
        return decay_fraction(self.spec.decay(self.index))

    @property
    def decay_bits(self) -> int:
        """Width of that."""
        return decay_bits(self.spec.decay(self.index))

    def decay_shift(self, decay: float, noise_state: int) -> int:
        """What the learning rate's shift has grown by for a sample that finds the noise register in this state.

        The decay rounded up, or, by the chance that makes the rate right in the mean, one less: where the register's
        last byte, as a fraction of 1, is below what rounding added. It stands still where the weights are frozen: all
        samples of a decay then have the same one of the two.
        """
        shift = math.ceil(decay)
        return shift - ((noise_state >> STATE_BITS - 8) < DECAY_STEPS * (shift - decay))

    # -- seeds -----------------------------------------------------------------------------------------

    @cached_property
    def _seeds(self) -> tuple[int, ...]:
        sequence = np.random.SeedSequence([self.spec.training.seed, self.index])
        # The all-zero state is the one that an LFSR never leaves.
        return tuple(int(word) or 1 for word in sequence.generate_state(5, np.uint64))

    @property
    def classifier_seed(self) -> int:
        """First state of the register that makes the classifier's matrix."""
        return self._seeds[0]

    @property
    def noise_seed(self) -> int:
        """First state of the register that makes the rounding noise."""
        return self._seeds[1]

    @property
    def feedback_seed(self) -> int:
        """First state of the register that makes a feedback matrix other than the classifier's."""
        return self._seeds[2]

    @property
    def mask_seed(self) -> int:
        """First state of the register that says which neurons are dropped."""
        return self._seeds[3]

    @property
    def matrix_noise_seed(self) -> int:
        """First state of the register that makes the rounding noise of a learned matrix."""
        return self._seeds[4]

    def initial_weights(self) -> NDArray[np.int32]:
        """Weights before learning, shape (neurons, fan_in): uniform, biases (the last column) 0."""
        rng = np.random.default_rng([self.spec.training.seed, self.index, 0])
        largest = 1 << (self.weight_format.fraction - self.spec.init_shift(self.index))
        weights = rng.integers(-largest, largest, (self.neurons, self.fan_in), np.int32, endpoint=True)
        weights[:, -1] = 0
        clipped: NDArray[np.int32] = np.clip(weights, self.weight_format.min, self.weight_format.max)
        return clipped

    def initial_matrix(self) -> NDArray[np.int32]:
        """Of a classifier that learns, shape (features, classes): uniform in +-1."""
        rng = np.random.default_rng([self.spec.training.seed, self.index, 1])
        one = 1 << self.classifier.format.fraction
        return rng.integers(-one, one, (self.features, self.classes), np.int32, endpoint=True)

    # -- the weight memory's layout --------------------------------------------------------------------

    def to_rows(self, weights: NDArray[np.int32]) -> NDArray[np.int32]:
        """Weights (neurons, fan_in) as memory rows (weight_rows, lanes); lanes without a neuron hold 0."""
        padded = np.zeros((self.groups * self.lanes, self.fan_in), np.int32)
        padded[: self.neurons] = weights
        by_group = padded.reshape(self.groups, self.lanes, self.fan_in)
        return by_group.transpose(0, 2, 1).reshape(self.weight_rows, self.lanes)

    def from_rows(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """The inverse of `to_rows`."""
        by_group = rows.reshape(self.groups, self.fan_in, self.lanes).transpose(0, 2, 1)
        return by_group.reshape(self.groups * self.lanes, self.fan_in)[: self.neurons]
