"""The rules that are compared, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from locallearn.reference.local_errors import LocalErrors
from locallearn.reference.output_errors import (
    Backprop,
    DirectFeedbackAlignment,
    DirectRandomTargetProjection,
    FeedbackAlignment,
)
from locallearn.reference.rule import Rule

__all__ = ["RULES", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A rule as it takes part in comparisons.

    make  a network that learns by it, of (shape, hidden, classes, seed)
    rate  of Adam
    """

    make: Callable[..., Rule]
    rate: float = 1e-3


RULES = {
    "local": Entry(LocalErrors),
    "local-signs": Entry(partial(LocalErrors, matrix="signs")),
    "local-sign-concordant": Entry(partial(LocalErrors, feedback="sign-concordant")),
    "local-random": Entry(partial(LocalErrors, feedback="random")),
    "local-trainable": Entry(partial(LocalErrors, feedback="trainable")),
    "local-hinge": Entry(partial(LocalErrors, loss="squared-hinge")),
    "backprop": Entry(Backprop),
    "feedback-alignment": Entry(FeedbackAlignment),
    "dfa": Entry(DirectFeedbackAlignment),
    "drtp": Entry(DirectRandomTargetProjection),
}
