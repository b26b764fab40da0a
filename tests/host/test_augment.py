"""Augmentation against a definition that looks at one pixel at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from locallearn.host.augment import augment
from locallearn.quant.errors import DataError
from locallearn.quant.spec import AugmentSpec


def naive(
    image: NDArray[np.uint8],
    shape: tuple[int, ...],
    spec: AugmentSpec,
    chance: NDArray[np.float64],
    grain: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """One image (size,): where each of its pixels comes from, by five numbers between 0 and 1, and a byte a pixel."""
    rows, columns = shape[-2:]
    channels = image.size // (rows * columns)
    down, right = (math.floor(chance[i] * (2 * spec.shift + 1)) - spec.shift for i in (0, 1))
    mirrored = spec.flip and chance[2] < 0.5
    top, left = (math.floor(chance[3 + i] * side) - spec.cutout // 2 for i, side in enumerate((rows, columns)))
    out = np.zeros((channels, rows, columns), np.uint8)
    for channel in range(channels):
        for row in range(rows):
            for column in range(columns):
                y, x = row + down, column + right
                if mirrored:
                    x = columns - 1 - x
                if top <= row < top + spec.cutout and left <= column < left + spec.cutout:
                    continue
                if grain[(channel * rows + row) * columns + column] < 256 * spec.drop:
                    continue
                if 0 <= y < rows and 0 <= x < columns:
                    out[channel, row, column] = image[(channel * rows + y) * columns + x]
    return out.reshape(-1)


@st.composite
def cases(draw: DrawFn) -> tuple[NDArray[np.uint8], tuple[int, ...], AugmentSpec]:
    side = st.integers(1, 7)
    shape = draw(st.tuples(side, side) | st.tuples(st.integers(1, 3), side, side))
    most = st.integers(0, min(shape[-2:]))
    spec = AugmentSpec(draw(most), draw(st.booleans()), draw(most), draw(st.integers(0, 255)) / 256)
    pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 256, (draw(st.integers(0, 12)), *shape))
    return pixels.astype(np.uint8).reshape(len(pixels), math.prod(shape)), shape, spec


@given(cases(), st.integers(0, 1000))
def test_equals_the_naive_definition(case: tuple, seed: int) -> None:
    pixels, shape, spec = case
    before = pixels.copy()
    augmented = augment(pixels, shape, spec, np.random.default_rng(seed))
    chance = np.random.default_rng(seed).random((len(pixels), 5))
    grain = np.random.default_rng(seed).spawn(1)[0].integers(0, 256, pixels.shape, np.uint8)
    by = zip(pixels, chance, grain, strict=True)
    expected = [naive(image, shape, spec, numbers, bytes_) for image, numbers, bytes_ in by]
    np.testing.assert_array_equal(augmented, np.array(expected, np.uint8).reshape(pixels.shape), strict=True)
    np.testing.assert_array_equal(pixels, before)


@given(cases(), st.integers(0, 12))
def test_what_follows_makes_no_difference(case: tuple, count: int) -> None:
    """So an epoch's first images are the same whatever --limit is."""
    pixels, shape, spec = case
    whole = augment(pixels, shape, spec, np.random.default_rng(3))
    np.testing.assert_array_equal(augment(pixels[:count], shape, spec, np.random.default_rng(3)), whole[:count])


def places(spec: AugmentSpec) -> NDArray[np.int64]:
    """Where a single pixel in the middle of 5x5 goes to, over 4,000 images; 0 stands for nowhere."""
    pixels = np.zeros((4000, 25), np.uint8)
    pixels[:, 12] = 1
    augmented = augment(pixels, (5, 5), spec, np.random.default_rng(0))
    assert (augmented.sum(axis=1) <= 1).all()
    return augmented.reshape(-1, 5, 5).sum(axis=0, dtype=np.int64)


def test_every_shift_is_as_likely() -> None:
    where = places(AugmentSpec(shift=2))
    assert where.sum() == 4000
    assert (abs(where - 160) < 60).all()  # 12.4 is the standard deviation
    assert (places(AugmentSpec(shift=1))[1:4, 1:4] > 300).all()


def test_every_second_image_is_mirrored() -> None:
    pixels = np.tile(np.array([1, 2], np.uint8), (4000, 1))
    augmented = augment(pixels, (1, 2), AugmentSpec(flip=True), np.random.default_rng(0))
    assert set(map(tuple, augmented.tolist())) == {(1, 2), (2, 1)}
    assert abs((augmented[:, 0] == 2).sum() - 2000) < 160


def test_every_centre_is_as_likely() -> None:
    pixels = np.ones((4000, 25), np.uint8)
    kept = augment(pixels, (5, 5), AugmentSpec(cutout=1), np.random.default_rng(0))
    assert (kept.sum(axis=1) == 24).all()
    assert (abs((kept == 0).sum(axis=0) - 160) < 60).all()
    clipped = augment(pixels, (5, 5), AugmentSpec(cutout=3), np.random.default_rng(0))
    assert set((25 - clipped.sum(axis=1)).tolist()) == {4, 6, 9}


@pytest.mark.parametrize("spec", [AugmentSpec(shift=2), AugmentSpec(cutout=3), AugmentSpec(drop=0.5)])
def test_what_is_empty_has_the_value_that_is_told(spec: AugmentSpec) -> None:
    pixels = np.full((50, 25), 7, np.uint8)
    black = augment(pixels, (5, 5), spec, np.random.default_rng(0))
    grey = augment(pixels, (5, 5), spec, np.random.default_rng(0), 128)
    assert set(np.unique(black)) == {0, 7}
    np.testing.assert_array_equal(np.where(black == 0, 128, 7), grey)


def test_as_many_pixels_are_dropped_as_told() -> None:
    """Of images without rows and columns too."""
    kept = augment(np.ones((4000, 25), np.uint8), (25,), AugmentSpec(drop=0.25), np.random.default_rng(0))
    assert abs((kept == 0).sum() - 25000) < 600  # 137 is the standard deviation
    assert (abs((kept == 0).sum(axis=0) - 1000) < 130).all()


def test_nothing_by_default() -> None:
    pixels = np.zeros((3, 7), np.uint8)
    assert augment(pixels, (7,), AugmentSpec(), np.random.default_rng(0)) is pixels


def test_one_change_leaves_the_other_alone() -> None:
    """A run with flips added has the shifts of one without."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 36), np.uint8)
    shifted = augment(pixels, (6, 6), AugmentSpec(shift=2), np.random.default_rng(1))
    both = augment(pixels, (6, 6), AugmentSpec(shift=2, cutout=3), np.random.default_rng(1))
    assert ((both == shifted) | (both == 0)).all()
    assert (both != shifted).any()


@pytest.mark.parametrize(
    ("shape", "spec", "message"),
    [
        (
            (36,),
            AugmentSpec(flip=True),
            "training.augment needs images of (rows, columns) or (channels, rows, columns), the data set has (36,)",
        ),
        (
            (1, 1, 6, 6),
            AugmentSpec(shift=1),
            "training.augment needs images of (rows, columns) or (channels, rows, columns), the data set has "
            "(1, 1, 6, 6)",
        ),
        (
            (4, 9),
            AugmentSpec(shift=5),
            "training.augment.shift = 5: at most 4 is possible with images of 4x9",
        ),
        (
            (2, 6, 3),
            AugmentSpec(cutout=4),
            "training.augment.cutout = 4: at most 3 is possible with images of 6x3",
        ),
    ],
)
def test_impossible(shape: tuple[int, ...], spec: AugmentSpec, message: str) -> None:
    with pytest.raises(DataError) as caught:
        augment(np.zeros((2, 36), np.uint8), shape, spec, np.random.default_rng(0))
    assert str(caught.value) == message
