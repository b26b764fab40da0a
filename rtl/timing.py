"""How long things take on the chip, in cycles: for the RTL, and for estimates that do without it."""

from locallearn.quant.frames import SLOT_BYTES
from locallearn.quant.layer_plan import LayerPlan

__all__ = [
    "EVENT",
    "OPERANDS",
    "PRODUCT",
    "READOUT",
    "ROW",
    "SAY_CYCLES",
    "SCORE",
    "SLOT_CYCLES",
    "SUM",
    "WRITTEN",
    "error_cycles",
    "group_cycles",
    "score_cycles",
    "tree_cycles",
]

# The cycle after its issue in which a row's token ...
EVENT = 2  # has its event, so that the row's address can be made
ROW = 3  # has its address
OPERANDS = 6  # has its weights at the lanes
PRODUCT = 10  # is added up, or meets the rounding noise
SUM = 11  # is in the accumulator, or is a change to be subtracted
WRITTEN = 13  # is a new weight on its way back to the memory

# Single-port memories are read every second cycle while learning, and written in those between.
assert (WRITTEN - ROW) % 2 == 0, "the write would meet a read"

SCORE = 3
"""From the start of the walks over the scores to the first score; one follows a cycle."""

READOUT = 4
"""From a group's sums to its first activation; one follows a cycle."""

SLOT_CYCLES = SLOT_BYTES + 4
"""From the link to the chip: a slot of a full frame, its length included."""

SAY_CYCLES = 10
"""To send a byte to the host."""


def tree_cycles(terms: int) -> int:
    """Of a tree of four-way sums, a register behind each level."""
    return max(1, -(-(terms - 1).bit_length() // 2))


def score_cycles(plan: LayerPlan) -> int:
    """What scores come later than those of a matrix of +-1, which go straight into the sums."""
    if plan.classifier.learns:
        return 6
    bits = len(plan.classifier.matrix_weights)
    return tree_cycles(bits) if bits > 1 else 0


def error_cycles(plan: LayerPlan, learn: bool) -> int:
    """From the scores to the predicted class and, where there is something to learn, the layer's own errors."""
    if plan.classifier.loss == "squared-hinge":
        return plan.classes + 7
    return 3 * plan.classes + 16 if learn and plan.classifier.error == "local" else plan.classes + 3


def group_cycles(plan: LayerPlan) -> int:
    """From the order for a group of scaled errors until it is whole: one a cycle, through a tree of sums."""
    if plan.classifier.learns:
        return plan.error_group + 10 + tree_cycles(plan.classes)
    classes = 1 if plan.classifier.error == "label" else plan.classes
    return plan.error_group + 4 + tree_cycles(classes * len(plan.classifier.feedback_weights))
