"""MATLAB's files, versions 5 to 7, as SVHN comes: a header, then elements of type, length and bytes.

An own reader of numeric arrays: scipy's ends the process with a segmentation fault on some damaged files.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.formats import Part, checked_part, holds
from locallearn.quant.errors import DataError

__all__ = ["SVHN_FILES", "read_mat", "svhn_file", "svhn_folder"]

SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double to uint64; not cells, structures, text, sparse matrices


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """The numeric arrays of a MATLAB 5 to 7 file, in the type they are stored in (read-only).

    Raises `DataError`: another format (version 7.3 is HDF5), or damaged.
    """
    data = memoryview(path.read_bytes())
    if bytes(data[124:128]) != b"\0\1IM":  # version 1.0, little-endian: MATLAB 5 to 7 on today's machines
        raise DataError(f"{path}: not a MATLAB file of version 5 to 7 (save -v7)")
    arrays = {}
    try:
        for kind, body in _elements(data[128:]):
            if kind == _COMPRESSED:
                kind, body = next(_elements(memoryview(zlib.decompress(body))))
            if kind == _MATRIX:
                arrays.update(_matrix(body))
    except (ValueError, KeyError, StopIteration, struct.error, zlib.error) as error:
        raise DataError(f"{path}: damaged MATLAB file: {error!r}") from error
    return arrays


def svhn_file(path: Path) -> Part:
    """SVHN's MATLAB file, X (rows, columns, channels, n) and y (n, 1): images (channels, rows, columns).

    Raises `DataError`: not a MATLAB file, X or y missing or of another shape, labels that are not 1 to 10.
    """
    arrays = read_mat(path)
    if not {"X", "y"} <= arrays.keys() or arrays["X"].ndim != 4:
        raise DataError(f"{path}: needed are X uint8 (rows, columns, channels, n) and y (n, 1), as SVHN has them")
    images = arrays["X"].transpose(3, 2, 0, 1)
    part = checked_part(path, images, arrays["y"].reshape(-1), lowest=1, highest=10)
    return Part(part.images, part.labels % 10)  # 10 stands for the digit 0


def svhn_folder(folder: Path) -> tuple[Part, Part] | None:
    """SVHN's training and test file, images (3, 32, 32), labels 0 to 9; None where neither is there.

    Raises `DataError`: one of the two is missing, or damaged.
    """
    if not holds(folder, SVHN_FILES):
        return None
    train, test = (svhn_file(folder / name) for name in SVHN_FILES)
    return train, test


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # up to four bytes of data sit in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = at + 4, at + 8
        else:
            start = at + 8
            after = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"truncated, {start + size} bytes needed, {len(data)} found")
        yield kind, data[start : start + size]
        at = after


def _matrix(body: memoryview) -> dict[str, NDArray[Any]]:
    """The array under its name; nothing for what is no numeric array."""
    elements = _elements(body)
    _, flags = next(elements)
    if struct.unpack_from("<I", flags)[0] & 0xFF not in _NUMERIC_CLASSES:
        return {}
    (_, dimensions), (_, name), (kind, values) = next(elements), next(elements), next(elements)
    shape = np.frombuffer(dimensions, "<u4").tolist()
    array = np.frombuffer(values, f"<{_TYPES[kind]}").reshape(shape, order="F")
    return {bytes(name).decode("latin-1"): array}
