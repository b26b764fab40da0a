"""What a classifier is wrong by: e = dL/ds of its scores s (n, classes), for targets t of 0 and 1 (n, classes)."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

__all__ = ["LOSSES", "Loss", "cross_entropy_error", "squared_hinge_error"]

Loss = Literal["cross-entropy", "squared-hinge"]


def cross_entropy_error(scores: Tensor, targets: Tensor) -> Tensor:
    """L = -log softmax(s)[t]: e = softmax(s) - t."""
    return scores.softmax(1) - targets


def squared_hinge_error(scores: Tensor, targets: Tensor) -> Tensor:
    """L = sum_k max(0, 1 - u_k s_k)^2 with u = +1 for the sample's class, -1 else: e = -2 u max(0, 1 - u s)."""
    signs = 2 * targets - 1
    return -2 * signs * (1 - signs * scores).relu()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": cross_entropy_error,
    "squared-hinge": squared_hinge_error,
}
