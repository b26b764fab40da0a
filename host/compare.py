"""Where two arrays of integers first differ."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["first_difference"]


def first_difference(expected: NDArray[Any], actual: NDArray[Any]) -> dict[str, Any] | None:
    """{"index", "expected", "actual"} of the first entry that differs, or None.

    Where one array is longer, its first entry beyond the other's end differs from None.
    """
    common = min(len(expected), len(actual))
    different = np.argwhere(expected[:common] != actual[:common])
    if len(different):
        index = tuple(different[0].tolist())
    elif len(expected) != len(actual):
        index = (common,)
    else:
        return None
    return {
        "index": list(index),
        "expected": expected[index].tolist() if index[0] < len(expected) else None,
        "actual": actual[index].tolist() if index[0] < len(actual) else None,
    }
