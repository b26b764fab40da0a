"""The raw binary files of CIFAR-10, CIFAR-100 and STL-10: fixed-size records without any header."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from locallearn.host.formats import Part, checked_part, holds
from locallearn.quant.errors import DataError

__all__ = [
    "CIFAR10_FILES",
    "CIFAR100_FILES",
    "STL10_FILES",
    "cifar10_folder",
    "cifar100_folder",
    "stl10_folder",
]

CIFAR10_FILES = (*(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test_batch.bin")
CIFAR100_FILES = ("train.bin", "test.bin")
STL10_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")


def cifar10_folder(folder: Path) -> tuple[Part, Part] | None:
    """CIFAR-10, images (3, 32, 32), labels 0 to 9; None where none of its files is there.

    A record is the label and the image, 1 + 3072 bytes.

    Raises `DataError`: a file is missing, holds no whole number of records, or has a label beyond 9.
    """
    if not holds(folder, CIFAR10_FILES):
        return None
    batches = [_cifar_batch(folder / name, 1, 10) for name in CIFAR10_FILES]
    train = Part(*(np.concatenate(arrays) for arrays in zip(*batches[:-1], strict=True)))
    return train, batches[-1]


def cifar100_folder(folder: Path) -> tuple[Part, Part] | None:
    """CIFAR-100, images (3, 32, 32), the fine labels 0 to 99; None where none of its files is there.

    A record is the coarse label, the fine label and the image, 2 + 3072 bytes.

    Raises `DataError`: a file is missing, holds no whole number of records, or has a label beyond 99.
    """
    if not holds(folder, CIFAR100_FILES):
        return None
    train, test = (_cifar_batch(folder / name, 2, 100) for name in CIFAR100_FILES)
    return train, test


def stl10_folder(folder: Path) -> tuple[Part, Part] | None:
    """STL-10, images (3, 96, 96), labels 0 to 9; None where none of its files is there.

    Raises `DataError`: a file is missing, holds no whole number of images, has a label that is not 1 to 10
    (as the files count), or images and labels differ in number.
    """
    if not holds(folder, STL10_FILES):
        return None
    return _stl10_part(folder, "train"), _stl10_part(folder, "test")


def _cifar_batch(path: Path, label_bytes: int, classes: int) -> Part:
    records = _records(path, label_bytes + 3 * 32 * 32)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return checked_part(path, images, records[:, label_bytes - 1], highest=classes - 1)


def _stl10_part(folder: Path, name: str) -> Part:
    path = folder / f"{name}_X.bin"
    # The publisher stores each channel column by column.
    images = _records(path, 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    labels = _records(folder / f"{name}_y.bin", 1)[:, 0]
    part = checked_part(f"{path} and {name}_y.bin", images, labels, lowest=1, highest=10)
    return Part(part.images, part.labels - 1)


def _records(path: Path, size: int) -> NDArray[np.uint8]:
    """The file as (records, size)."""
    data = np.fromfile(path, np.uint8)
    if data.size % size:
        needed = -(-data.size // size) * size
        raise DataError(f"{path}: truncated, {needed} bytes needed (records of {size}), {data.size} found")
    return data.reshape(-1, size)
