"""NumPy's .npz, the format for one's own data: named arrays in one file."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.formats import Part, checked_part
from locallearn.quant.errors import DataError

__all__ = ["npz_file"]


def npz_file(path: Path) -> tuple[Part, Part | None]:
    """Arrays x (n, ...) uint8 and y (n,) integers, with x_test and y_test or None for them.

    x is (n, size), (n, rows, columns) or (n, channels, rows, columns).

    Raises `DataError`: not an .npz file, an array missing or of another type or shape, counts that differ.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not a whole .npz file")
        try:
            # Nothing is ever unpickled: a data set must not be able to run code.
            with np.load(file, allow_pickle=False) as archive:
                names = {"x", "y", "x_test", "y_test"} & set(archive.files)
                arrays = {name: archive[name] for name in names}
        except Exception as error:  # damage surfaces as almost any, some with messages of several lines
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path}: cannot be read: {reason}") from error
    own_test = not arrays.keys().isdisjoint({"x_test", "y_test"})
    return _part(path, arrays, "x", "y"), _part(path, arrays, "x_test", "y_test") if own_test else None


def _part(path: Path, arrays: dict[str, NDArray[Any]], x: str, y: str) -> Part:
    for name in (x, y):
        if name not in arrays:
            raise DataError(f"{path}: no array {name}; needed are {x} uint8 (n, ...) and {y} integers (n,)")
    images, labels = arrays[x], arrays[y]
    if not 2 <= images.ndim <= 4:
        raise DataError(f"{path}: {x} has {images.ndim} dimensions, needed are 2 to 4, images first")
    return checked_part(f"{path}, {x} and {y}", images, labels)
