"""The register map: what the host can read and write, declared once for RTL, host and tests.

A region is a table of `rows` x `lanes` elements; an element crosses the link as `size` bytes, little endian.
A read or write names a layer, a region and a range of whole rows. It waits until every sample sent before it has
been learned, so it sees one consistent state.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.packets import ACCESS, Opcode, result_fields
from locallearn.quant.plan import NetworkPlan

__all__ = [
    "CHIP",
    "CHIP_COUNTERS",
    "COUNTER_BITS",
    "ELEMENT_BITS",
    "LAYER_COUNTERS",
    "Kind",
    "Region",
    "interface_fingerprint",
    "regions",
    "split_events",
]

CHIP = 0xFF
"""In place of a layer's number: regions that belong to the chip as a whole."""

ELEMENT_BITS = 64
"""Width of the bus that carries elements on the chip."""

COUNTER_BITS = 48
"""At 100 MHz a cycle counter lasts for a month."""


class Kind(IntEnum):
    """What a region holds."""

    FINGERPRINT = 0
    """Chip: `NetworkSpec.fingerprint`, then `interface_fingerprint`."""
    DECAY = 1
    """Chip: what the learning rate's shift has grown by in all layers; layer, where its own has taken its place. With
    `decay_fraction` fraction bits."""
    COUNTERS = 2
    """Chip and layers: see CHIP_COUNTERS and LAYER_COUNTERS; any write clears all of them."""
    WEIGHTS = 3
    """Layer: a row holds one weight of every lane, see `LayerPlan.to_rows`."""
    CLASSIFIER_SEED = 4
    """Layer: the state that the classifier's generator starts each sample with."""
    NOISE_STATE = 5
    """Layer: the rounding noise's register."""
    SCORES = 6
    """Layer: the last sample's scores, S' or S."""
    ERRORS = 7
    """Layer, where it learns from its own: the last labelled sample's error, signed."""
    EVENTS = 8
    """Dense layer: the event buffer, index above value."""
    EVENT_SPAN = 9
    """Dense layer: where the last sample's events begin, and where the next sample's will."""
    FEEDBACK_SEED = 10
    """Layer, where the feedback has bits of its own: the state that their generator starts each sample with."""
    MASK_STATE = 11
    """Layer with dropout: the mask's register."""
    CLASSIFIER = 12
    """Layer, where its classifier learns: a row holds a neuron's entries."""
    MATRIX_NOISE_STATE = 14
    """Layer, where its classifier learns: its rounding noise's register."""
    EXIT_LEAD = 13
    """Layer, where samples can stop early: the lead at which they do, all ones for none."""
    FROZEN = 15
    """Layer: 0, it learns; bit 0, it learns nothing; bit 1, where its classifier learns, only that does."""


def split_events(plan: LayerPlan, words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words of the event buffer as input numbers and values."""
    bits = plan.input_format.bits
    value = words & ((1 << bits) - 1)
    return words >> bits, np.where(value > plan.input_format.max, value - (1 << bits), value)


CHIP_COUNTERS = (
    "cycles",  # with anything in flight
    "samples",
    "link_errors",  # bytes and packets that made no sense
    "bad_frames",  # altered on the line
    "missed_frames",  # whole, but the one before was missing
)

LAYER_COUNTERS = (
    "events",
    "forward",  # weight rows read for forward passes, begun early and thrown away included
    "discarded",  # of these, rows thrown away because the sample before had something to learn
    "gradients",  # of a convolution, inputs that have met errors; a dense layer's meet them in their updates
    "updates",  # weight rows read and written by learning
    "learned",
    "skipped",
    "saturated",
    "starved",  # cycles without a sample to begin
    "waiting",  # cycles with a sample but no row to read: for the classifier, or for the next layer
)
"""Every cycle in flight is one of forward, gradients, updates, starved, waiting."""


@dataclass(frozen=True)
class Region:
    """A table of elements; `bits` wide, of which signed ones are sign-extended on the link."""

    rows: int
    lanes: int
    bits: int
    signed: bool = False
    writable: bool = False

    @property
    def size(self) -> int:
        """Bytes of an element on the link."""
        return -(-self.bits // 8)


def regions(plan: NetworkPlan) -> dict[tuple[int, Kind], Region]:
    """All regions of a chip by layer (or CHIP) and kind."""
    table = {
        (CHIP, Kind.FINGERPRINT): Region(2, 1, 32),
        (CHIP, Kind.DECAY): Region(1, 1, plan.decay_bits, writable=True),
        (CHIP, Kind.COUNTERS): Region(len(CHIP_COUNTERS), 1, COUNTER_BITS, writable=True),
    }
    for p in plan.layers:
        table |= {
            (p.index, Kind.COUNTERS): Region(len(LAYER_COUNTERS), 1, COUNTER_BITS, writable=True),
            (p.index, Kind.WEIGHTS): Region(p.weight_rows, p.lanes, p.weight_format.bits, signed=True, writable=True),
            (p.index, Kind.CLASSIFIER_SEED): Region(1, 1, 64, writable=True),
            (p.index, Kind.NOISE_STATE): Region(1, 1, 64, writable=True),
            (p.index, Kind.FROZEN): Region(1, 1, p.frozen_bits, writable=True),
            (p.index, Kind.SCORES): Region(p.classes, 1, p.score_bits, signed=p.signed_scores),
            (p.index, Kind.ERRORS): Region(p.classes, 1, p.error_width, signed=True),
            (p.index, Kind.EVENTS): Region(p.event_depth, 1, p.event_bits),
            (p.index, Kind.EVENT_SPAN): Region(2, 1, p.event_address_bits),
        }
        if isinstance(p, ConvPlan):
            # Its input is not kept as events.
            del table[p.index, Kind.EVENTS], table[p.index, Kind.EVENT_SPAN]
        if p.classifier.error != "local":
            del table[p.index, Kind.ERRORS]
        if p.classifier.learns:
            matrix = Region(p.features, p.classes, p.classifier.format.bits, signed=True, writable=True)
            del table[p.index, Kind.CLASSIFIER_SEED]
            table[p.index, Kind.CLASSIFIER] = matrix
            table[p.index, Kind.MATRIX_NOISE_STATE] = Region(1, 1, 64, writable=True)
        if p.feedback_bits:
            table[p.index, Kind.FEEDBACK_SEED] = Region(1, 1, 64, writable=True)
        if p.dropped:
            table[p.index, Kind.MASK_STATE] = Region(1, 1, 64, writable=True)
        if p.can_exit:
            table[p.index, Kind.EXIT_LEAD] = Region(1, 1, p.exit_bits, writable=True)
        if p.has_own_decay:
            table[p.index, Kind.DECAY] = Region(1, 1, p.decay_bits, writable=True)
    return table


def interface_fingerprint(plan: NetworkPlan) -> int:
    """32 bits of all that host and chip have to agree about beside the network's description: a chip that another
    version of locallearn built may have other regions, counters or packets."""
    said = [list(Opcode), ACCESS, result_fields(plan), CHIP_COUNTERS, LAYER_COUNTERS]
    return zlib.crc32(repr([*said, sorted(regions(plan).items())]).encode())
