"""The constants of an ONNX file as arrays: from the file, or from others in its folder and nowhere else."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from locallearn.quant.errors import ModelError

__all__ = ["FLOATS", "Constants"]

_MAX_NUMBERS = 1 << 25
"""Of all constants together, those in other files and what is computed from them included."""

_MAX_RANK = 8

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_STORED: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
"""Where numbers are that are not bytes; in int32_data, but for these types."""

_KINDS: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}

_TYPES = FLOATS | {
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
    TensorProto.BOOL,
}


class Constants:
    """Those of the model at `path`, by name; they become arrays when they are asked for."""

    def __init__(self, path: Path, tensors: Iterable[TensorProto]) -> None:
        self._path = path
        self._folder = path.resolve().parent
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._left = _MAX_NUMBERS

    @property
    def names(self) -> set[str]:
        return set(self._tensors)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Raises ModelError where its numbers are not what it says, or not finite."""
        return self.array(self._tensors[name])

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """The numbers of a constant; floats as float64."""
        what = f"{self._path}: constant {tensor.name!r}"
        shape = tuple(tensor.dims)
        if len(shape) > _MAX_RANK or min(shape, default=0) < 0:
            raise ModelError(f"{what}: a shape of {shape!r:.80} is not possible")
        count = math.prod(shape)
        if tensor.data_type not in _TYPES:
            raise ModelError(
                f"{what}: is of type {_KINDS.get(tensor.data_type, tensor.data_type)}; "
                "needed are floats, integers of 8 to 64 bits, or BOOL"
            )
        self.spend(what, count)
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.data_location == TensorProto.EXTERNAL:
            values = np.frombuffer(self._external(tensor, count * kind.itemsize, what), kind.newbyteorder("<"))
        elif tensor.HasField("raw_data"):
            self._check_size(what, len(tensor.raw_data), count * kind.itemsize, "bytes")
            values = np.frombuffer(tensor.raw_data, kind.newbyteorder("<"))
        else:
            stored = getattr(tensor, _STORED.get(int(tensor.data_type), "int32_data"))
            self._check_size(what, len(stored), count, "numbers")
            try:
                values = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, OverflowError) as error:
                raise ModelError(f"{what}: cannot be read: {error}") from None
        values = values.reshape(shape)
        if tensor.data_type not in FLOATS:
            return values
        values = values.astype(np.float64)
        # A limit may be infinite.
        wrong = np.isnan(values) if count == 1 else ~np.isfinite(values)
        if wrong.any():
            place = [int(i) for i in np.argwhere(wrong)[0]]
            raise ModelError(f"{what}: {values[tuple(place)]} at {place}; needed are finite numbers")
        return values

    def spend(self, what: str, numbers: int) -> None:
        """Of the numbers that a model may have. Raises ModelError where none are left for this."""
        self._left -= numbers
        if self._left < 0:
            raise ModelError(f"{what}: with it there are more than {_MAX_NUMBERS} numbers; no chip holds so many")

    def _check_size(self, what: str, given: int, needed: int, unit: str) -> None:
        if given != needed:
            raise ModelError(f"{what}: has {given} {unit}, its shape needs {needed}")

    def _external(self, tensor: TensorProto, size: int, what: str) -> bytes:
        """Only from a file in the model's folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            path = (self._folder / location).resolve()
        except (OSError, RuntimeError, ValueError, TypeError):  # links in a circle, zeros in a name, no text at all
            path = self._folder
        if path == self._folder or not path.is_relative_to(self._folder):
            raise ModelError(f"{what}: is in {location!r:.200}; only files in the model's own folder are read")
        numbers = {}
        for key in ("offset", "length"):
            text = entries.get(key, "0" if key == "offset" else str(size))
            if not (text.isascii() and text.isdigit() and len(text) < 20):
                raise ModelError(f"{what}: {key} = {text!r:.80} of its external data: must be a whole number")
            numbers[key] = int(text)
        self._check_size(what, numbers["length"], size, "bytes")
        try:
            # A pipe or a device would never end.
            if not path.is_file():
                raise ModelError(f"{what}: {location} is not in the model's folder; it belongs to the model")
            there = path.stat().st_size
            if numbers["offset"] + size > there:
                raise ModelError(
                    f"{what}: bytes {numbers['offset']} to {numbers['offset'] + size} of {location}, which has {there}"
                )
            with path.open("rb") as file:
                file.seek(numbers["offset"])
                return file.read(size)
        except OSError as error:
            raise ModelError(f"{what}: {location}: cannot be read: {error.strerror}") from None
