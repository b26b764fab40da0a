"""Equality whose failure says what differs, where, and by what."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["assert_same"]


def assert_same(what: str, expected: ArrayLike, actual: ArrayLike) -> None:
    """Compare two numbers or arrays exactly; shapes count, types do not.

    AssertionError names `what`, the first index that differs, both values there, and how many more differ.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    assert expected.shape == actual.shape, f"{what}: expected shape {expected.shape}, actual {actual.shape}"
    wrong = np.argwhere(expected != actual)
    if len(wrong):
        first = tuple(int(axis) for axis in wrong[0])
        index = f"[{', '.join(map(str, first))}]" if first else ""
        more = f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        raise AssertionError(f"{what}{index}: expected {expected[first]}, actual {actual[first]}{more}")
