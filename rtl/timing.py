"""How long things take on the chip, in cycles: for the RTL, and for estimates that do without it."""

from locallearn.quant.plan import LayerPlan

__all__ = [
    "EVENT",
    "OPERANDS",
    "PRODUCT",
    "READOUT",
    "ROW",
    "SUM",
    "WRITTEN",
    "error_cycles",
    "group_cycles",
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

READOUT = 4
"""From a group's sums to its first activation; one follows a cycle."""


def error_cycles(classes: int, learn: bool) -> int:
    """From the scores to the predicted class and, where there is something to learn, the errors."""
    return 3 * classes + 16 if learn else classes + 3


def group_cycles(plan: LayerPlan) -> int:
    """From the order for a group of scaled errors until it is whole: one a cycle, through a tree of four-way sums."""
    return plan.lanes + 4 + -(-plan.class_bits // 2)
