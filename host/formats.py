"""What every data set reader yields: images and labels that belong together, checked once, here."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.errors import DataError

__all__ = ["Part", "checked_part", "holds"]


class Part(NamedTuple):
    """The training or the held-out half of a data set."""

    images: NDArray[np.uint8]  # (n, *shape), n >= 1
    labels: NDArray[np.int64]  # (n,), none negative


def checked_part(
    where: object, images: NDArray[Any], labels: NDArray[Any], lowest: int = 0, highest: int = 2**31 - 1
) -> Part:
    """Images and labels as a `Part`.

    `where` names the file or files in messages. `lowest` and `highest` are the labels that the format
    allows; they are handed on as they stand, in int64.

    Raises `DataError`: images not uint8, labels not integers, counts that differ, nothing there, a label
    out of range.
    """
    if images.dtype != np.uint8:
        raise DataError(f"{where}: the images are {images.dtype}, needed is uint8")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        shape = "x".join(map(str, labels.shape))
        raise DataError(f"{where}: the labels are {labels.dtype} ({shape}), needed is one integer an image")
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels")
    if images.size == 0:
        raise DataError(f"{where}: empty, needed is at least one image of at least one pixel")
    wrong = np.flatnonzero((labels < lowest) | (labels > highest))
    if wrong.size:
        label = labels[wrong[0]]
        raise DataError(f"{where}: sample {wrong[0]} has label {label}, needed is {lowest} to {highest}")
    return Part(images, labels.astype(np.int64))


def holds(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether the folder holds all these files; some of them only is a `DataError` that names the rest."""
    missing = [name for name in names if not (folder / name).is_file()]
    if 0 < len(missing) < len(names):
        raise DataError(f"{folder}: missing {', '.join(missing)}")
    return not missing
