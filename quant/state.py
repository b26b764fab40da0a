"""All that learning changes in a network: what a chip or a model needs to go on from where another one was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """A network between two samples.

    arrays        all that is learned, as `NetworkPlan.arrays` lists it
    noise         of every layer's noise register
    matrix_noise  of every layer's register for a classifier that learns, its seed where it does not
    masks         of every layer's dropout mask, its seed where it has none
    """

    arrays: Sequence[NDArray[np.int32]]
    noise: Sequence[int]
    matrix_noise: Sequence[int]
    masks: Sequence[int]
