"""Every format is written here in small and read back; every fault is told by its message."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from locallearn.host import datasets
from locallearn.host.datasets import NAMES, Dataset, check, default_data_dir, load, validation
from locallearn.host.formats_idx import read_idx
from locallearn.host.formats_mat import read_mat
from locallearn.quant.errors import DataError
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec


def images(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def labels(count: int, classes: int = 10) -> NDArray[np.uint8]:
    return (np.arange(count) * 7 % classes).astype(np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, packed: bool = True, test: str = "t10k") -> dict[str, NDArray[np.uint8]]:
    """A folder of IDX files, 12 training and 4 test images of 3x2, and what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": images(12, 3, 2),
        "train-labels-idx1-ubyte": labels(12),
        f"{test}-images-idx3-ubyte": images(4, 3, 2),
        f"{test}-labels-idx1-ubyte": labels(4),
    }
    for name, array in arrays.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return arrays


def cifar10_folder(folder: Path) -> NDArray[np.uint8]:
    """Six batches of two records; the records, (12, 1 + 3072)."""
    folder.mkdir(parents=True)
    records = np.hstack([labels(12)[:, None], images(12, 3072)])
    for batch, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        records[2 * batch : 2 * batch + 2].tofile(folder / name)
    return records


def svhn_file(path: Path, count: int) -> NDArray[np.uint8]:
    """Labels 1 to 10 in turn; the images as SVHN keeps them, (32, 32, 3, n)."""
    x = images(32, 32, 3, count)
    savemat(path, {"X": x, "y": (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]}, do_compression=True)
    return x


# --- what is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("packed", "test"), [(True, "t10k"), (False, "t10k"), (True, "test")])
def test_idx_folder(tmp_path: Path, packed: bool, test: str) -> None:
    wrote = idx_folder(tmp_path / "own", packed, test)
    data = load(str(tmp_path / "own"))
    np.testing.assert_array_equal(data.train_x, wrote["train-images-idx3-ubyte"].reshape(12, 6))
    np.testing.assert_array_equal(data.train_y, wrote["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(data.test_x, wrote[f"{test}-images-idx3-ubyte"].reshape(4, 6))
    np.testing.assert_array_equal(data.test_y, wrote[f"{test}-labels-idx1-ubyte"])
    assert (data.name, data.shape, data.size, data.classes) == ("own", (3, 2), 6, 10)
    assert data.held_out == "publisher's test set"
    assert (str(data.train_x.dtype), str(data.train_y.dtype)) == ("uint8", "int64")


def test_cifar10_folder(tmp_path: Path) -> None:
    records = cifar10_folder(tmp_path / "c")
    data = load(str(tmp_path / "c"))
    np.testing.assert_array_equal(data.train_x, records[:10, 1:])
    np.testing.assert_array_equal(data.train_y, records[:10, 0])
    np.testing.assert_array_equal(data.test_x, records[10:, 1:])
    np.testing.assert_array_equal(data.test_y, records[10:, 0])
    assert (data.shape, data.size) == ((3, 32, 32), 3072)


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    x, fine = images(6, 3072), np.array([0, 99, 5, 50, 7, 8], np.uint8)
    records = np.hstack([fine[:, None] // 5, fine[:, None], x])
    records[:4].tofile(tmp_path / "train.bin")
    records[4:].tofile(tmp_path / "test.bin")
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.train_y, [0, 99, 5, 50])
    np.testing.assert_array_equal(data.test_x, x[4:])
    assert data.classes == 100


def test_svhn_ten_is_zero_and_channels_come_first(tmp_path: Path) -> None:
    train = svhn_file(tmp_path / "train_32x32.mat", 20)
    svhn_file(tmp_path / "test_32x32.mat", 10)
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.train_y[:11], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    image = data.train_x[13].reshape(3, 32, 32)
    assert image[2, 30, 5] == train[30, 5, 2, 13]
    np.testing.assert_array_equal(image, train[:, :, :, 13].transpose(2, 0, 1))
    assert (data.classes, data.held_out, len(data.test_y)) == (10, "publisher's test set", 10)


def test_one_mat_file_has_a_fifth_held_out(tmp_path: Path) -> None:
    svhn_file(tmp_path / "some.mat", 50)
    data = load(str(tmp_path / "some.mat"))
    assert (len(data.train_y), data.held_out) == (40, "random fifth, seed 0")
    np.testing.assert_array_equal(np.bincount(data.test_y), np.ones(10))


@pytest.mark.parametrize("packed", [False, True])
def test_the_mat_reader_agrees_with_scipy(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.mat"
    types = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
    arrays = {f"{kind}_{rows}": np.arange(3 * rows).reshape(3, rows).astype(kind) for kind in types for rows in (1, 5)}
    others = {"text": "text", "structure": {"x": 1}, "cells": np.array([[1], "a"], object)}
    savemat(path, {**others, **arrays, "long_name" * 3: images(2, 3, 4, 5)}, do_compression=packed)
    # Compressed and plain variables in one file: compressed ones are not padded to eight bytes.
    single = tmp_path / "b.mat"
    savemat(single, {"last": images(7, 3)})
    path.write_bytes(path.read_bytes() + single.read_bytes()[128:])
    expected = {name: array for name, array in loadmat(path).items() if name[0] != "_" and name not in others}
    found = read_mat(path)
    assert len(found) == 2 * len(types) + 2
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


def test_stl10_is_turned_to_rows_and_counted_from_zero(tmp_path: Path) -> None:
    x = images(3, 3, 96, 96)
    for part in ("train", "test"):
        x.transpose(0, 1, 3, 2).tofile(tmp_path / f"{part}_X.bin")
        np.array([1, 10, 4], np.uint8).tofile(tmp_path / f"{part}_y.bin")
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.train_x.reshape(x.shape), x)
    np.testing.assert_array_equal(data.test_y, [0, 9, 3])
    assert (data.shape, data.classes) == ((3, 96, 96), 10)


def test_npz_with_its_own_test_part(tmp_path: Path) -> None:
    x, x_test = images(5, 4), images(2, 4)
    np.savez(tmp_path / "a.npz", x=x, y=labels(5, 3), x_test=x_test, y_test=np.array([4, 0]))
    data = load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(data.train_x, x)
    np.testing.assert_array_equal(data.test_x, x_test)
    np.testing.assert_array_equal(data.test_y, [4, 0])
    assert (data.name, data.shape, data.classes, data.held_out) == ("a.npz", (4,), 5, "x_test of the file")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(lambda counts: max(counts) > 2))
def test_a_fifth_of_every_class_is_held_out(tmp_path: Path, counts: list[int]) -> None:
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.arange(2 * len(y), dtype=np.uint16).view(np.uint8).reshape(-1, 4)  # every image another
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = load(str(tmp_path / "a.npz"))
    assert [int((data.test_y == label).sum()) for label in range(len(counts))] == [round(n / 5) for n in counts]
    both = np.hstack([np.vstack([data.train_x, data.test_x]), np.append(data.train_y, data.test_y)[:, None]])
    assert sorted(map(tuple, both)) == sorted(map(tuple, np.hstack([x, y[:, None]])))
    np.testing.assert_array_equal(load(str(tmp_path / "a.npz")).test_x, data.test_x)


def test_digits() -> None:
    data = load("digits")
    assert (len(data.train_x) + len(data.test_x), data.shape, data.classes) == (1797, (8, 8), 10)
    assert data.held_out == "random fifth, seed 0"
    # The first digit of the set, a zero, as scikit-learn prints it: 0 0 5 13 9 1 0 0; 16 becomes 255.
    np.testing.assert_array_equal(data.train_x[0, :8], [0, 0, 80, 208, 144, 16, 0, 0])
    assert data.train_x.max() == 255
    # The held-out part is the same on every machine and with every version of NumPy.
    np.testing.assert_array_equal(data.test_y[:12], [4, 5, 6, 9, 4, 7, 8, 9, 9, 6, 9, 9])
    assert (len(data.test_y), int(data.test_x.sum(dtype=np.int64))) == (359, 1_780_915)


# --- where it is looked for ----------------------------------------------------------------------------------


def test_a_name_is_looked_up_below_and_in_the_data_folder(tmp_path: Path) -> None:
    idx_folder(tmp_path / "kmnist")
    assert load("kmnist", tmp_path).name == "kmnist"
    assert load("kmnist", tmp_path / "kmnist").name == "kmnist"


def test_a_name_is_looked_up_in_the_publishers_folder(tmp_path: Path) -> None:
    cifar10_folder(tmp_path / "cifar-10-batches-bin")
    assert load("cifar10", tmp_path).size == 3072


def test_the_users_data_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    idx_folder(default_data_dir() / "mnist")
    assert load("mnist").shape == (3, 2)


def test_fashion_mnist_comes_from_debians_package_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_folder(tmp_path / "system")
    known = replace(datasets._KNOWN["fashion-mnist"], system_folder=tmp_path / "system")
    monkeypatch.setitem(datasets._KNOWN, "fashion-mnist", known)
    assert load("fashion-mnist", tmp_path / "data").shape == (3, 2)


def test_missing_sets_say_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as caught:
        load("cifar10", tmp_path)
    for folder in ("cifar10", "cifar-10-batches-bin"):
        assert str(tmp_path / folder) in str(caught.value)
    assert f"run `locallearn data fetch cifar10 --data-dir {tmp_path}`" in str(caught.value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"run `locallearn data fetch kmnist`$"):
        load("kmnist")
    known = replace(datasets._KNOWN["fashion-mnist"], system_folder=tmp_path / "nowhere")
    monkeypatch.setitem(datasets._KNOWN, "fashion-mnist", known)
    with pytest.raises(DataError, match=r"nowhere: run .*, or apt install dataset-fashion-mnist"):
        load("fashion-mnist", tmp_path)


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set, file or folder called mnits; .*did you mean mnist\?"):
        load("mnits", tmp_path)
    with pytest.raises(DataError, match=f"called qqq; data sets: {', '.join(NAMES)}$"):
        load("qqq", tmp_path)


def test_a_folder_or_file_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no IDX, CIFAR-10, CIFAR-100, SVHN or STL-10 files"):
        load(str(tmp_path))
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"a\.csv: needed is a folder, an \.npz file or a \.mat file"):
        load(str(tmp_path / "a.csv"))


# --- what is damaged -----------------------------------------------------------------------------------------


def test_truncated_idx_says_bytes(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: truncated, 88 bytes needed for 12x3x2, 83 found"):
        load(str(tmp_path))


def test_a_lying_header_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100))
    with pytest.raises(DataError, match=f"truncated, {16 + (2**32 - 1) ** 3} bytes needed .*, 116 found"):
        read_idx(path, (3,))


def test_bad_magic(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(images(12, 1, 1)))
    with pytest.raises(DataError, match="bad magic number 0x00000803, needed is 0x00000801"):
        load(str(tmp_path))


def test_idx_count_mismatch(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels(5)))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: 4 images but 5 labels"):
        load(str(tmp_path))


def test_idx_file_missing(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"missing t10k-labels-idx1-ubyte \(\.gz or not\)"):
        load(str(tmp_path))


def test_training_and_test_images_differ(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images(4, 2, 3)))
    with pytest.raises(DataError, match="training images of 3x2, but test images of 2x3"):
        load(str(tmp_path))


def test_empty_idx(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images(0, 3, 2)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels(0)))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: empty"):
        load(str(tmp_path))


def test_damaged_gzip(tmp_path: Path) -> None:
    idx_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged gzip file: Not a gzipped file"):
        load(str(tmp_path))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packed=st.booleans())
def test_no_damage_escapes_as_another_error(tmp_path: Path, data: st.DataObject, packed: bool) -> None:
    """Any byte changed, any length cut: read whole or refused, nothing else."""
    idx_folder(tmp_path, packed)
    path = data.draw(st.sampled_from(sorted(tmp_path.iterdir())))
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError):
        load(str(tmp_path))
    path.write_bytes(whole[:cut] + bytes([data.draw(st.integers(0, 255))]) + whole[cut + 1 :])
    try:
        assert load(str(tmp_path)).size == 6
    except DataError as error:
        assert "\n" not in str(error)
    for file in tmp_path.iterdir():
        file.unlink()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".npz", ".mat"]))
def test_damaged_archives_are_refused_or_read(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, x=images(10, 4), y=labels(10, 2))
    else:
        savemat(path, {"X": images(2, 2, 3, 10), "y": labels(10, 2)[:, None] + 1}, do_compression=True)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError):
        load(str(path))
    path.write_bytes(whole[:cut] + bytes([data.draw(st.integers(0, 255))]) + whole[cut + 1 :])
    try:
        assert isinstance(load(str(path)), Dataset)
    except DataError as error:
        assert "\n" not in str(error)


def test_npz_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x, y = images(10, 4), labels(10, 2)
    faults: list[tuple[str, dict[str, NDArray[Any]]]] = [
        (r"no array y; needed are x uint8 \(n, \.\.\.\) and y integers \(n,\)", {"x": x}),
        ("no array x; needed are", {"y": y}),
        ("no array y_test; needed are x_test uint8", {"x": x, "y": y, "x_test": x}),
        ("x and y: the images are float64, needed is uint8", {"x": x / 255, "y": y}),
        (r"x and y: the labels are float64 \(10\), needed is one integer an image", {"x": x, "y": y / 1}),
        (r"the labels are uint8 \(10x1\), needed is one integer", {"x": x, "y": y[:, None]}),
        ("x and y: sample 3 has label -1, needed is 0 to", {"x": x, "y": np.array([0, 1, 0, -1, *[0] * 6])}),
        ("x and y: 10 images but 9 labels", {"x": x, "y": y[:9]}),
        ("x has 1 dimensions, needed are 2 to 4", {"x": x[:, 0], "y": y}),
        ("a.npz, x and y: empty", {"x": x[:0], "y": y[:0]}),
        ("too few images a class to hold a fifth out", {"x": x, "y": np.arange(10)}),
        ("cannot be read: Object arrays cannot be loaded", {"x": x, "y": np.array([{}] * 10)}),
    ]
    for message, arrays in faults:
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            load(str(path))
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"a\.npz: not a whole \.npz file"):
        load(str(path))


def test_mat_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"no matlab file")
    with pytest.raises(DataError, match=r"a\.mat: not a MATLAB file of version 5 to 7 \(save -v7\)"):
        load(str(path))
    savemat(path, {"X": images(2, 2, 3, 10)})
    with pytest.raises(DataError, match=r"needed are X uint8 \(rows, columns, channels, n\) and y"):
        load(str(path))
    savemat(path, {"X": images(2, 2, 3, 10), "y": labels(10)[:, None]})
    with pytest.raises(DataError, match="sample 0 has label 0, needed is 1 to 10"):
        load(str(path))


def test_cifar_faults(tmp_path: Path) -> None:
    folder = tmp_path / "cifar"
    cifar10_folder(folder)
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: truncated, 6146 bytes needed .*, 6145 found"):
        load(str(folder))
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: sample 0 has label 10, needed is 0 to 9"):
        load(str(folder))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"data_batch_3\.bin: empty"):
        load(str(folder))
    path.unlink()
    with pytest.raises(DataError, match=r"missing data_batch_3\.bin"):
        load(str(folder))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    idx_folder(tmp_path, packed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="train-images-idx3-ubyte: Is a directory"):
        load(str(tmp_path))


# --- whether it fits -----------------------------------------------------------------------------------------


def network(size: int, classes: int, shape: tuple[int, int, int] | None = None) -> NetworkSpec:
    return NetworkSpec("", classes, InputSpec(size, shape=shape), (LayerSpec(2),))


def test_check_shape(tmp_path: Path) -> None:
    """Of grey images a network can have a channel, or none; numbers in another order are another image."""
    idx_folder(tmp_path / "own")
    data = load(str(tmp_path / "own"))
    check(data, network(6, 10, (1, 3, 2)))
    with pytest.raises(DataError, match=r"own has images of 3x2, the network takes 1x2x3 \(channels, rows, columns\)"):
        check(data, network(6, 10, (1, 2, 3)))
    colour = replace(data, shape=(3, 2, 1))
    check(colour, network(6, 10, (3, 2, 1)))
    with pytest.raises(DataError, match=r"own has images of 3x2x1, the network takes 1x3x2"):
        check(colour, network(6, 10, (1, 3, 2)))


def test_check(tmp_path: Path) -> None:
    idx_folder(tmp_path / "own")
    data = load(str(tmp_path / "own"))
    check(data, network(6, 10))
    check(data, network(6, 16))
    with pytest.raises(DataError, match=r"own has images of 6 \(3x2\), the network takes 64: needed is"):
        check(data, network(64, 10))
    # labels(n) are 0, 7, 4, 1, 8, ...: 8 is the first beyond 8 classes, in training sample 4.
    with pytest.raises(DataError, match=r"own: training sample 4 has label 8, the network has 8 classes \(0 to 7\)"):
        check(data, network(6, 8))
    few = replace(data, train_y=data.train_y % 5)
    with pytest.raises(DataError, match="own: test sample 1 has label 7"):
        check(few, network(6, 5))


# --- validation ----------------------------------------------------------------------------------------------


def parts(path: Path) -> Dataset:
    np.savez(path, x=images(12, 3, 2), y=labels(12), x_test=images(4, 3, 2), y_test=labels(4))
    return load(str(path))


@pytest.mark.parametrize("count", [1, 5, 11])
def test_validation_holds_out_the_last_training_samples(tmp_path: Path, count: int) -> None:
    data = parts(tmp_path / "a.npz")
    split = validation(data, count)
    assert split.held_out == f"last {count} training samples"
    assert (len(split.train_x), len(split.test_x)) == (12 - count, count)
    np.testing.assert_array_equal(np.concatenate([split.train_x, split.test_x]), data.train_x)
    np.testing.assert_array_equal(np.concatenate([split.train_y, split.test_y]), data.train_y)
    assert (split.name, split.shape, split.classes) == (data.name, data.shape, data.classes)


@pytest.mark.parametrize("count", [-1, 0, 12, 13])
def test_validation_leaves_something_of_both(tmp_path: Path, count: int) -> None:
    message = f"a.npz has 12 training samples, {count} cannot be held out: needed are 1 to 11"
    with pytest.raises(DataError) as caught:
        validation(parts(tmp_path / "a.npz"), count)
    assert str(caught.value) == message
