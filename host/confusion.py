"""Which class is taken for which."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["confusion"]


def confusion(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[NDArray[np.int64]]:
    """Of every layer, how many samples there are of each [label, predicted], (classes, classes).

    predicted  (n, layers), as in `Results`
    labels     (n,)
    """
    return [
        np.bincount(labels * classes + layer, minlength=classes**2).reshape(classes, classes) for layer in predicted.T
    ]
