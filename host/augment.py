"""Training images changed at random by the host: shifted, mirrored, with a square or single pixels cut out."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from locallearn.quant.errors import DataError
from locallearn.quant.spec import AugmentSpec

__all__ = ["augment", "check"]


def check(shape: tuple[int, ...], spec: AugmentSpec) -> None:
    """That images of `shape` can be augmented so. Raises DataError where they have no rows and columns or too few."""
    if not (spec.shift or spec.flip or spec.cutout):
        return
    if len(shape) not in (2, 3):
        raise DataError(
            f"training.augment needs images of (rows, columns) or (channels, rows, columns), the data set has {shape}"
        )
    for name, pixels in (("shift", spec.shift), ("cutout", spec.cutout)):
        if pixels > min(shape[-2:]):
            raise DataError(
                f"training.augment.{name} = {pixels}: at most {min(shape[-2:])} is possible with images of "
                f"{shape[-2]}x{shape[-1]}"
            )


def augment(
    pixels: NDArray[np.uint8], shape: tuple[int, ...], spec: AugmentSpec, rng: np.random.Generator, empty: int = 0
) -> NDArray[np.uint8]:
    """Images (n, size) of `shape`, C order, changed at random; `pixels` itself where `spec` asks for nothing.

    Where nothing is left of an image it has the value `empty`.
    Two equal generators do the same to an image however many follow, and shift, flip and cutout the same whatever
    else happens to it. Raises DataError as `check` does.
    """
    check(shape, spec)
    (grain,) = rng.spawn(1)
    if spec.shift or spec.flip or spec.cutout:
        pixels = _move(pixels, shape, spec, rng, empty)
    if spec.drop:
        kept = grain.integers(0, 256, pixels.shape, np.uint8) >= round(256 * spec.drop)
        pixels = np.where(kept, pixels, np.uint8(empty))
    return pixels


def _move(
    pixels: NDArray[np.uint8], shape: tuple[int, ...], spec: AugmentSpec, rng: np.random.Generator, empty: int
) -> NDArray[np.uint8]:
    """All that is done to whole images, by five numbers each."""
    rows, columns = shape[-2:]
    images = pixels.reshape(len(pixels), math.prod(shape[:-2]), rows, columns)
    down, right, mirror, *centre = rng.random((len(pixels), 5)).T
    if spec.flip:
        images = np.where((mirror < 0.5)[:, None, None, None], images[..., ::-1], images)
    if spec.shift:
        # Where the window begins in the padded image: at `shift` it shows the image as it was.
        top, left = (np.floor((2 * spec.shift + 1) * u).astype(np.intp) for u in (down, right))
        padded = np.pad(images, ((0, 0), (0, 0), *[(spec.shift, spec.shift)] * 2), constant_values=empty)
        images = sliding_window_view(padded, (rows, columns), (-2, -1))[np.arange(len(pixels)), :, top, left]
    if spec.cutout:
        inside = []
        for side, u in zip((rows, columns), centre, strict=True):
            begin = np.floor(side * u)[:, None] - spec.cutout // 2
            inside.append((np.arange(side) >= begin) & (np.arange(side) < begin + spec.cutout))
        cut = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        images = np.where(cut, np.uint8(empty), images)
    return images.reshape(pixels.shape)
