"""IDX, the format of MNIST and its kin: a magic number, the dimensions, then the bytes; gzipped or not."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from locallearn.host.formats import Part, checked_part
from locallearn.quant.errors import DataError

__all__ = ["idx_folder", "read_idx"]

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[.-]idx\d-ubyte(\.gz)?")


def read_idx(path: Path, dimensions: tuple[int, ...]) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes, in the shape its header gives (read-only).

    `dimensions` are the numbers of dimensions that will do: (1,) for labels, (2, 3, 4) for images.

    Raises `DataError`: damaged gzip, another magic number, fewer or more bytes than the header says.
    """
    # All there is, then the header: memory follows the file's real length, whatever the header claims.
    data = _gunzip(path) if path.suffix == ".gz" else path.read_bytes()
    magics = [struct.pack(">HBB", 0, 8, count) for count in dimensions]
    if data[:4] not in magics:
        wanted = " or ".join(f"0x{magic.hex()}" for magic in magics)
        raise DataError(f"{path}: bad magic number 0x{data[:4].hex()}, needed is {wanted}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path}: truncated header, {start} bytes needed, {len(data)} found")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    needed = start + math.prod(shape)
    if len(data) != needed:
        fault = "truncated" if len(data) < needed else "too long"
        size = "x".join(map(str, shape))
        raise DataError(f"{path}: {fault}, {needed} bytes needed for {size}, {len(data)} found")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def idx_folder(folder: Path) -> tuple[Part, Part] | None:
    """Training and test part of a folder of IDX files; None where there is no IDX file.

    The files are named as MNIST's: train- and t10k- (or test-), images and labels; a plain file goes
    before its .gz.

    Raises `DataError`: one of the four is missing or damaged, or images and labels do not match.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.glob("*-ubyte*")):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(("train" if match[1] == "train" else "t10k", match[2]), path)
    if not found:
        return None
    for part, kind in (("train", "images"), ("train", "labels"), ("t10k", "images"), ("t10k", "labels")):
        if (part, kind) not in found:
            raise DataError(f"{folder}: missing {part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte (.gz or not)")
    return (
        _part(found["train", "images"], found["train", "labels"]),
        _part(found["t10k", "images"], found["t10k", "labels"]),
    )


def _part(images: Path, labels: Path) -> Part:
    where = f"{images} and {labels.name}"
    return checked_part(where, read_idx(images, (2, 3, 4)), read_idx(labels, (1,)))


def _gunzip(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error
