"""Data sets as the chip takes them: flat rows of unsigned bytes, and class numbers from 0."""

import difflib
import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from locallearn.host.formats import Part, checked_part
from locallearn.host.formats_binary import cifar10_folder, cifar100_folder, stl10_folder
from locallearn.host.formats_idx import idx_folder
from locallearn.host.formats_mat import svhn_file, svhn_folder
from locallearn.host.formats_npz import npz_file
from locallearn.quant.errors import DataError
from locallearn.quant.spec import NetworkSpec

__all__ = [
    "NAMES",
    "Dataset",
    "check",
    "check_fit",
    "default_data_dir",
    "epoch_order",
    "load",
    "unknown_name",
    "validation",
]

PUBLISHED = "publisher's test set"
RANDOM_FIFTH = "random fifth, seed 0"


@dataclass(frozen=True)
class Dataset:
    """A training and a held-out part; images and labels match, neither part is empty."""

    name: str
    train_x: NDArray[np.uint8]  # (n, size): one image a row, flattened in C order (channel, row, column)
    train_y: NDArray[np.int64]  # (n,) 0 to classes - 1
    test_x: NDArray[np.uint8]  # held out, as train_x
    test_y: NDArray[np.int64]
    classes: int
    shape: tuple[int, ...]  # (rows, columns), (channels, rows, columns) or (size,)
    held_out: str  # how the held-out part came about

    @property
    def size(self) -> int:
        """Bytes an image."""
        return math.prod(self.shape)

    @property
    def checksum(self) -> int:
        """32 bits that tell it from others: a run that goes on must find what it was learning from."""
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        return functools.reduce(lambda sofar, part: zlib.crc32(np.ascontiguousarray(part).data, sofar), parts, 0)


@dataclass(frozen=True)
class _Known:
    """A data set that has a name, and where its files lie."""

    about: str
    read: Callable[[Path], tuple[Part, Part] | None]
    publisher_folder: str | None = None  # the folder that the publisher's archive unpacks to
    system_folder: Path | None = None  # where a distribution's package puts it
    package: str | None = None  # the name of that package


_KNOWN = {
    "mnist": _Known("handwritten digits, 28x28, 60,000 + 10,000, 10 classes", idx_folder),
    "fashion-mnist": _Known(
        "clothes, 28x28, 60,000 + 10,000, 10 classes",
        idx_folder,
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
    "kmnist": _Known("cursive Japanese characters, 28x28, 60,000 + 10,000, 10 classes", idx_folder),
    "cifar10": _Known("photographs, 3x32x32, 50,000 + 10,000, 10 classes", cifar10_folder, "cifar-10-batches-bin"),
    "cifar100": _Known("photographs, 3x32x32, 50,000 + 10,000, 100 classes", cifar100_folder, "cifar-100-binary"),
    "svhn": _Known("house numbers, 3x32x32, 73,257 + 26,032, 10 classes", svhn_folder),
    "stl10": _Known("photographs, 3x96x96, 5,000 + 8,000, 10 classes", stl10_folder, "stl10_binary"),
}

NAMES: dict[str, str] = {
    "digits": "handwritten digits, 8x8, 1,797 of them, 10 classes; comes with scikit-learn",
    **{name: known.about for name, known in _KNOWN.items()},
}
"""The data sets that have a name, each with one line about it."""


def default_data_dir() -> Path:
    """Where downloads go and where names are looked up, unless the user says otherwise."""
    return platformdirs.user_data_path("locallearn")


def load(source: str, data_dir: Path | None = None) -> Dataset:
    """The data set called `source`, one of `NAMES`, or the one in the folder or file of that path.

    A name is looked up in data_dir/NAME, in the publisher's own folder below data_dir, and in data_dir
    itself (default: `default_data_dir`). A folder holds IDX, CIFAR-10, CIFAR-100, SVHN or STL-10 files;
    a file is an .npz with x uint8 (n, ...), y integers, perhaps x_test and y_test, or SVHN's .mat. A file
    without a test part gets a random fifth of every class held out, the same one every time.

    Raises `DataError`: not found, damaged, or not in one of these formats.
    """
    try:
        if source == "digits":
            return _digits()
        if source in _KNOWN:
            return _load_known(source, data_dir)
        return _load_path(source)
    except OSError as error:
        raise DataError(f"{error.filename or source}: {error.strerror or error}") from error


def validation(dataset: Dataset, count: int) -> Dataset:
    """The same with its last `count` training samples held out instead of its test part, which is let go.

    For choosing anything by its accuracy: the test part then says what the choice is worth.
    Raises `DataError` where that leaves no sample to train on or to hold out.
    """
    size = len(dataset.train_x)
    if not 0 < count < size:
        raise DataError(
            f"{dataset.name} has {size} training samples, {count} cannot be held out: needed are 1 to {size - 1}"
        )
    return replace(
        dataset,
        train_x=dataset.train_x[:-count],
        train_y=dataset.train_y[:-count],
        test_x=dataset.train_x[-count:],
        test_y=dataset.train_y[-count:],
        held_out=f"last {count} training samples",
    )


def epoch_order(seed: int, epoch: int, size: int, limit: int | None) -> NDArray[np.int64]:
    """Which of `size` training samples an epoch, counted from 0, learns from, in order; all if `limit` is None."""
    return np.random.default_rng([seed, epoch]).permutation(size)[:limit]


def check(dataset: Dataset, spec: NetworkSpec) -> None:
    """That the network can learn this data set. Raises `DataError`, see `check_fit`."""
    check_fit(dataset, spec.input.size, spec.input.shape, spec.classes)


def check_fit(dataset: Dataset, size: int, wanted: tuple[int, int, int] | None, classes: int) -> None:
    """The same of any network that takes so many numbers, of an image of a shape perhaps, and knows so many classes.

    Raises `DataError` with what both have, and for a label with the first sample that has it.
    """
    shape = "x".join(map(str, dataset.shape))
    if dataset.size != size:
        raise DataError(
            f"{dataset.name} has images of {dataset.size} ({shape}), the network takes {size}: "
            f"needed is a network with {dataset.size} inputs, or another data set"
        )
    # A grey image needs no channel of its own.
    if wanted is not None and dataset.shape not in (wanted, *([wanted[1:]] if wanted[0] == 1 else [])):
        raise DataError(
            f"{dataset.name} has images of {shape}, the network takes {'x'.join(map(str, wanted))} (channels, rows, "
            f"columns): needed is a network of that shape, or another data set"
        )
    for part, labels in (("training", dataset.train_y), ("test", dataset.test_y)):
        beyond = np.flatnonzero(labels >= classes)
        if beyond.size:
            raise DataError(
                f"{dataset.name}: {part} sample {beyond[0]} has label {labels[beyond[0]]}, "
                f"the network has {classes} classes (0 to {classes - 1})"
            )


def unknown_name(name: str, kinds: str) -> DataError:
    """The error for a name that is none of `kinds` ("data set", "data set, file or folder")."""
    near = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return DataError(f"no {kinds} called {name}; data sets: {', '.join(NAMES)}{hint}")


def _digits() -> Dataset:
    # scikit-learn takes a second to import: only who uses its digits pays.
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    images = np.minimum(255, 16 * digits.images).astype(np.uint8)  # values 0 to 16
    return _dataset("digits", checked_part("digits", images, digits.target), None)


def _load_known(name: str, data_dir: Path | None) -> Dataset:
    known = _KNOWN[name]
    base = data_dir or default_data_dir()
    folders = [base / name, base]
    if known.publisher_folder:
        folders.insert(1, base / known.publisher_folder)
    if known.system_folder:
        folders.append(known.system_folder)
    for folder in folders:
        if parts := known.read(folder):
            return _dataset(name, *parts)
    looked = ", ".join(map(str, folders))
    option = f" --data-dir {data_dir}" if data_dir else ""
    package = f", or apt install {known.package}" if known.package else ""
    raise DataError(f"{name} is not in {looked}: run `locallearn data fetch {name}{option}`{package}")


def _load_path(source: str) -> Dataset:
    path = Path(source)
    name = path.resolve().name
    if path.is_dir():
        for read in dict.fromkeys(known.read for known in _KNOWN.values()):
            if parts := read(path):
                return _dataset(name, *parts)
        raise DataError(f"{path}: no IDX, CIFAR-10, CIFAR-100, SVHN or STL-10 files in this folder")
    if not path.exists():
        raise unknown_name(source, "data set, file or folder")
    if path.suffix == ".npz":
        return _dataset(name, *npz_file(path), held_out="x_test of the file")
    if path.suffix == ".mat":
        return _dataset(name, svhn_file(path), None)
    raise DataError(f"{path}: needed is a folder, an .npz file or a .mat file")


def _dataset(name: str, train: Part, test: Part | None, held_out: str = PUBLISHED) -> Dataset:
    if test is None:
        train, test = _hold_out_fifth(name, train)
        held_out = RANDOM_FIFTH
    shape = train.images.shape[1:]
    if test.images.shape[1:] != shape:
        sizes = ("x".join(map(str, part.images.shape[1:])) for part in (train, test))
        raise DataError(f"{name}: training images of {next(sizes)}, but test images of {next(sizes)}")
    return Dataset(
        name=name,
        train_x=np.ascontiguousarray(train.images).reshape(len(train.images), -1),
        train_y=train.labels,
        test_x=np.ascontiguousarray(test.images).reshape(len(test.images), -1),
        test_y=test.labels,
        classes=int(max(train.labels.max(), test.labels.max())) + 1,
        shape=shape,
        held_out=held_out,
    )


def _hold_out_fifth(name: str, part: Part) -> tuple[Part, Part]:
    """A random fifth of every class held out, to the nearest sample; both parts keep the samples' order."""
    # NumPy keeps RandomState's numbers the same for good; those of default_rng may change.
    order = np.random.RandomState(0).permutation(len(part.labels))
    order = order[np.argsort(part.labels[order], kind="stable")]
    _, first, count = np.unique(part.labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    held = np.zeros(len(order), bool)
    held[order[rank < np.repeat((count + 2) // 5, count)]] = True
    if not held.any():
        raise DataError(f"{name}: too few images a class to hold a fifth out; needed are 3, or x_test and y_test")
    return Part(part.images[~held], part.labels[~held]), Part(part.images[held], part.labels[held])
