"""The packets between host and chip, declared once for RTL, host and tests.

Host to chip, one opcode byte first:
    READ, WRITE   ACCESS fields; WRITE is followed by rows x lanes elements of the region's size
    CHECK         ACCESS fields
    INFER, TRAIN  the label (any for INFER), then the pixels in order, signed ones in two's complement: a byte 1..255
                  is a pixel, a byte 0 starts a run of zeros and the next byte is its length less one (so 1..256)
Chip to host, in the order of the requests:
    DATA          answers READ: rows x lanes elements
    DONE          answers WRITE
    SUM           answers CHECK: the CRC-32 (zlib's) of what READ would have answered behind DATA, 4 bytes
    RESULT        answers INFER and TRAIN: a `result_fields` record for every layer, all 0 beyond one that `stopped` it

Fields are packed from bit 0 up, little endian, each record rounded up to whole bytes.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.plan import NetworkPlan

__all__ = [
    "ACCESS",
    "MAX_RUN",
    "Opcode",
    "encode_samples",
    "pack",
    "record_size",
    "result_fields",
    "result_size",
    "unpack",
]


class Opcode(IntEnum):
    READ = 0x01
    WRITE = 0x02
    CHECK = 0x03
    INFER = 0x10
    TRAIN = 0x11
    DATA = 0x81
    DONE = 0x82
    SUM = 0x83
    RESULT = 0x90


ACCESS = {"layer": 8, "kind": 8, "row": 32, "rows": 32}
"""Fields and widths after READ, WRITE and CHECK."""

MAX_RUN = 256
"""Zeros that one run can stand for."""


def result_fields(plan: NetworkPlan) -> dict[str, int]:
    """Fields and widths of one layer's result: the predicted class, the error's size (0 without a label), and, where
    there is early exit, whether the sample went no further."""
    fields = {"predicted": plan.layers[0].class_bits, "error": max(layer.error_size_bits for layer in plan.layers)}
    return fields | ({"stopped": 1} if plan.spec.early_exit else {})


def result_size(plan: NetworkPlan) -> int:
    """Bytes of a sample's result: its opcode, and a record of each layer."""
    return 1 + len(plan.layers) * record_size(result_fields(plan))


def record_size(fields: Mapping[str, int]) -> int:
    """Bytes of a record."""
    return -(-sum(fields.values()) // 8)


def pack(fields: Mapping[str, int], **values: int) -> bytes:
    """A record from its fields' values, all of them unsigned."""
    word, position = 0, 0
    for name, width in fields.items():
        if not 0 <= values[name] < 1 << width:
            raise ValueError(f"{name} = {values[name]}: does not fit {width} bits")
        word |= values[name] << position
        position += width
    return word.to_bytes(record_size(fields), "little")


def unpack(fields: Mapping[str, int], record: bytes) -> dict[str, int]:
    """The inverse of `pack`."""
    word = int.from_bytes(record, "little")
    values = {}
    for name, width in fields.items():
        values[name] = word & ((1 << width) - 1)
        word >>= width
    return values


def encode_samples(
    pixels: NDArray[np.uint8 | np.int8], labels: NDArray[np.int64] | None
) -> tuple[bytes, NDArray[np.int64]]:
    """INFER (without labels) or TRAIN packets for samples (n, size), all at once.

    Returns the bytes and where each packet ends in them, shape (n,).
    """
    samples, size = pixels.shape
    # A code is one pixel with the zeros before it; one past the end of each sample takes those at its end.
    row, column = np.pad(pixels, ((0, 0), (0, 1)), constant_values=1).nonzero()
    is_pixel = column < size
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    previous = np.roll(column, 1)
    previous[starts] = -1
    zeros = column - previous - 1
    runs = -(-zeros // MAX_RUN)

    header = np.zeros(len(row), np.int64)
    header[starts] = 2
    length = header + 2 * runs + is_pixel
    end = length.cumsum()
    encoded = np.zeros(end[-1] if samples else 0, np.uint8)
    begin = end - length
    encoded[begin[starts]] = Opcode.INFER if labels is None else Opcode.TRAIN
    encoded[begin[starts] + 1] = 0 if labels is None else labels
    # Every run but the last of its code is full.
    first_run = begin + header
    run_of = np.repeat(np.arange(len(row)), runs)
    number = np.arange(len(run_of)) - np.repeat(runs.cumsum() - runs, runs)
    encoded[first_run[run_of] + 2 * number + 1] = np.minimum(zeros[run_of] - MAX_RUN * number, MAX_RUN) - 1
    encoded[end[is_pixel] - 1] = pixels.view(np.uint8)[row[is_pixel], column[is_pixel]]
    return encoded.tobytes(), end[np.append(starts[1:], len(row)) - 1] if samples else end
