"""The rules that are compared, by name."""

from collections.abc import Callable
from functools import partial

from locallearn.reference.local_errors import LocalErrors
from locallearn.reference.output_errors import (
    Backprop,
    DirectFeedbackAlignment,
    DirectRandomTargetProjection,
    FeedbackAlignment,
)
from locallearn.reference.rule import Rule

__all__ = ["RULES"]

RULES: dict[str, Callable[..., Rule]] = {
    "local": LocalErrors,
    "local-signs": partial(LocalErrors, matrix="signs"),
    "local-sign-concordant": partial(LocalErrors, feedback="sign-concordant"),
    "local-random": partial(LocalErrors, feedback="random"),
    "local-trainable": partial(LocalErrors, feedback="trainable"),
    "local-hinge": partial(LocalErrors, loss="squared-hinge"),
    "backprop": Backprop,
    "feedback-alignment": FeedbackAlignment,
    "dfa": DirectFeedbackAlignment,
    "drtp": DirectRandomTargetProjection,
}
"""Each makes a network that learns by it, of (shape, hidden, classes, seed)."""
