"""A device that learns: the chip behind a link, or the golden model in its place. Both behave the same."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from threading import RLock
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from locallearn.host.endpoint import LinkCounters
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError
from locallearn.quant.network import GoldenNetwork, LayerCounters, Model, check_decay, check_exits, quantise_pixels
from locallearn.quant.packets import ACCESS, Opcode, encode_samples, pack, record_size, result_fields, result_size
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, LAYER_COUNTERS, Kind, Region, interface_fingerprint, regions
from locallearn.quant.spec import NetworkSpec
from locallearn.quant.state import State

__all__ = ["ChipDevice", "Counters", "Device", "ModelDevice", "Results", "fingerprints"]

_AnyDevice = TypeVar("_AnyDevice", bound="Device")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_BATCH = 64
"""Samples encoded and sent at a time."""

_MODEL_BATCH = 256
"""Samples that a model takes at a time: enough that calls cost nothing, few enough to show progress and stop soon."""

_WINDOW = 8 * _BATCH
"""Samples sent ahead of their results: enough that the chip never waits, little enough to stop soon."""


@dataclass(frozen=True)
class Results:
    """What the device said of each sample, in order.

    predicted  (n, layers): the class by each layer's classifier, beyond the layer where a sample stopped by that one's
    error      (n, layers): the size of the error in units of 2^-error_bits, of a softmax 1 - p(label); 0 without labels
    answered   (n,): the layer where the sample stopped, see `Device.set_exits`, or the last one
    """

    predicted: NDArray[np.int64]
    error: NDArray[np.int64]
    answered: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.predicted)

    def shares(self, layers: int) -> list[float]:
        """Per cent of the samples that each of so many layers answers."""
        return [round(float(100 * (self.answered == layer).mean()), 4) for layer in range(layers)]

    def accuracy(self, labels: NDArray[np.int64]) -> list[float]:
        """Per cent of the samples that each layer gets right."""
        correct = self.predicted == labels[: len(self), None]
        return [round(float(100 * share), 4) for share in correct.mean(axis=0)]


@dataclass(frozen=True)
class Counters:
    """The device's counters since they were last cleared.

    layers     what the data define, equal on chip and model
    cycles     with anything in flight; None on the model, as all of the following
    link_errors  bytes and packets that made no sense
    bad_frames, missed_frames  that were altered on the line, and that were lost there
    discarded  rows read too early, per layer
    starved    cycles without a sample to begin, per layer
    waiting    cycles with a sample but no row to read, per layer
    """

    samples: int
    layers: list[LayerCounters]
    cycles: int | None = None
    link_errors: int | None = None
    bad_frames: int | None = None
    missed_frames: int | None = None
    discarded: list[int] | None = None
    starved: list[int] | None = None
    waiting: list[int] | None = None

    def __add__(self, other: "Counters") -> "Counters":
        """Those of one stretch of samples and of the next; what either device does not count is None."""
        return Counters(
            **{each.name: _sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        )


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return None
    if isinstance(one, list):
        return [_sum(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, LayerCounters):
        return LayerCounters(**{each.name: getattr(one, each.name) + getattr(other, each.name) for each in fields(one)})
    return one + other


def _alone(
    method: Callable[Concatenate[_AnyDevice, _Given], _Result],
) -> Callable[Concatenate[_AnyDevice, _Given], _Result]:
    """One call of a device's after the other, from whatever thread."""

    @wraps(method)
    def locked(self: _AnyDevice, /, *args: _Given.args, **options: _Given.kwargs) -> _Result:
        with self._lock:
            return method(self, *args, **options)

    return locked


class Device(ABC):
    """A network of `spec` that infers and learns. Use as a context manager.

    All methods may be called from any thread and wait for one another, `stream` until its last result; what its
    `progress` and `stop` call is in the thread of that call, and may call methods. `close` does not wait.

    Methods raise ValueError for arguments that do not fit the network, as they say, and where there is a chip
    DeviceError when it cannot be reached any more, StateLost when it was reset: then only `reset` goes on.
    """

    name: str

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.plan = NetworkPlan(spec)
        self._lock = RLock()

    @abstractmethod
    def stream(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        progress: Callable[[int], None] = lambda done: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Results:
        """Infer samples (n, inputs) of 8-bit pixels in order, learning from each where there are labels (n,).

        `progress` hears how many results have come. Once `stop` says so no further sample is sent; the results
        of those that were sent, all of them learned, are returned.
        """

    @abstractmethod
    def reset(self) -> None:
        """Initial weights, classifiers and noise of the spec's seed, frozen what it says; no decay, no exits; counters
        cleared."""

    @abstractmethod
    def set_decay(self, shifts: Sequence[float]) -> None:
        """Every layer's learning rate from here on is 2^-(rate_shift + its shift).

        Raises ValueError where there is not one a layer, or it is beyond the layer's decay.
        """

    @abstractmethod
    def set_exits(self, leads: Sequence[int]) -> None:
        """From here on unlabelled samples stop at a layer whose classifier leads by so much, see `NetworkPlan.exits`.

        Raises ValueError where there is not one for every layer but the last, or the spec has no `early_exit`.
        """

    @abstractmethod
    def read_weights(self) -> list[NDArray[np.int32]]:
        """All that is learned, as `NetworkPlan.arrays` lists it."""

    @abstractmethod
    def write_weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        """The inverse of `read_weights`."""

    @abstractmethod
    def read_state(self) -> State:
        """All that learning changes: another device that it is written to learns on bit for bit."""

    @abstractmethod
    def write_state(self, state: State) -> None:
        """The inverse of `read_state`."""

    @abstractmethod
    def counters(self) -> Counters:
        """Read the counters."""

    @abstractmethod
    def clear_counters(self) -> None:
        """Set all counters to 0."""

    @abstractmethod
    def close(self) -> None:
        """Let the device go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ModelDevice(Device):
    """A model in software, which `model(spec)` makes: NumPy's is called `numpy`, the compiled one `model`."""

    def __init__(self, spec: NetworkSpec, model: Callable[[NetworkSpec], Model] = GoldenNetwork) -> None:
        super().__init__(spec)
        self.name = "numpy" if model is GoldenNetwork else "model"
        self._make = model
        self.reset()

    @_alone
    def stream(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        progress: Callable[[int], None] = lambda done: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Results:
        shape = (0, len(self.plan.layers))
        predicted, error = [np.zeros(shape, np.int64)], [np.zeros(shape, np.int64)]
        answered = [np.zeros(0, np.int64)]
        done = 0
        while done < len(pixels) and not stop():
            part = slice(done, done + _MODEL_BATCH)
            trace = self.model.run(quantise_pixels(self.spec, pixels[part]), None if labels is None else labels[part])
            predicted.append(trace.predicted)
            error.append(trace.error_size)
            answered.append(trace.answered)
            done += len(trace.predicted)
            progress(done)
        self._samples += done
        return Results(np.concatenate(predicted), np.concatenate(error), np.concatenate(answered))

    @_alone
    def reset(self) -> None:
        self.model = self._make(self.spec)
        self._samples = 0

    @_alone
    def set_decay(self, shifts: Sequence[float]) -> None:
        check_decay(self.spec, shifts)
        self.model.decay = tuple(shifts)

    @_alone
    def set_exits(self, leads: Sequence[int]) -> None:
        check_exits(self.plan, leads)
        self.model.exits = tuple(leads)

    @_alone
    def read_weights(self) -> list[NDArray[np.int32]]:
        return self.model.weights

    @_alone
    def write_weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        self.model.weights = weights

    @_alone
    def read_state(self) -> State:
        return self.model.state

    @_alone
    def write_state(self, state: State) -> None:
        self.model.state = state

    @_alone
    def counters(self) -> Counters:
        return Counters(self._samples, self.model.counters)

    def close(self) -> None:
        """Nothing is held."""

    @_alone
    def clear_counters(self) -> None:
        self._samples = 0
        self.model.clear_counters()


def fingerprints(link: Link) -> tuple[int, int]:
    """Of whatever chip is behind the link: of its network's description, and `interface_fingerprint`.

    Raises DeviceError as the link does, and where the answer is none.
    """
    link.write(_request(Opcode.READ, CHIP, Kind.FINGERPRINT, 0, 2))
    _expect(link, Opcode.DATA)
    answer = link.read(8)
    return int.from_bytes(answer[:4], "little"), int.from_bytes(answer[4:], "little")


def _request(opcode: Opcode, layer: int, kind: Kind, row: int, rows: int) -> bytes:
    """The packet, for a WRITE without its elements."""
    return bytes([opcode]) + pack(ACCESS, layer=layer, kind=kind, row=row, rows=rows)


def _expect(link: Link, opcode: Opcode) -> None:
    found = link.read(1)[0]
    if found != opcode:
        raise DeviceError(f"{link.url}: expected a {opcode.name} packet ({opcode:#04x}), got {found:#04x}")


def _on_the_link(region: Region, elements: NDArray[np.int64]) -> bytes:
    """Rows of a region (rows, lanes) as READ and WRITE carry them."""
    elements = np.ascontiguousarray(elements, "<i8")
    return elements.view(np.uint8).reshape(*elements.shape, 8)[..., : region.size].tobytes()


class ChipDevice(Device):
    """A chip behind a link.

    Raises DeviceError where the chip was built from another description or by another version, and wherever the link
    does; its StateLost where the chip was reset, after which only `reset` begins anew.
    """

    def __init__(self, spec: NetworkSpec, link: Link) -> None:
        super().__init__(spec)
        self.name = link.url
        self._link = link
        self._regions = regions(self.plan)
        self._result = result_fields(self.plan)
        self._result_size = result_size(self.plan)
        self._check_fingerprints()

    def _check_fingerprints(self) -> None:
        url = self._link.url
        found, interface = fingerprints(self._link)
        if found != self.spec.fingerprint:
            raise DeviceError(
                f"{url}: the chip was built from another description (fingerprint {found:08x}) "
                f"than {self.spec.name} ({self.spec.fingerprint:08x})"
            )
        expected = interface_fingerprint(self.plan)
        if interface != expected:
            raise DeviceError(
                f"{url}: the chip was built by another version of locallearn (its interface is {interface:08x}, "
                f"this host's {expected:08x}): build it again"
            )

    def close(self) -> None:
        self._link.close()

    # -- regions ---------------------------------------------------------------------------------------

    @_alone
    def read(self, layer: int, kind: Kind, row: int = 0, rows: int | None = None) -> NDArray[np.int64]:
        """Rows of a region, shape (rows, lanes), once every sample sent before has been learned."""
        region = self._regions[layer, kind]
        rows = region.rows - row if rows is None else rows
        self._link.write(_request(Opcode.READ, layer, kind, row, rows))
        self._expect(Opcode.DATA)
        raw = np.frombuffer(self._link.read(rows * region.lanes * region.size), np.uint8)
        elements = np.zeros((rows, region.lanes, 8), np.uint8)
        elements[..., : region.size] = raw.reshape(rows, region.lanes, region.size)
        if region.signed:
            elements[..., region.size :] = np.where(elements[..., region.size - 1 : region.size] & 0x80, 0xFF, 0)
        # Elements of 64 bits are states of a register: their bits count, not their sign.
        return elements.view("<i8").reshape(rows, region.lanes).astype(np.int64)

    @_alone
    def write(self, layer: int, kind: Kind, elements: NDArray[np.int64], row: int = 0) -> None:
        """The inverse of `read`, for regions that can be written."""
        region = self._regions[layer, kind]
        if not region.writable:
            raise ValueError(f"{kind.name} can only be read")
        elements = elements.reshape(-1, region.lanes)
        request = _request(Opcode.WRITE, layer, kind, row, len(elements))
        self._link.write(request + _on_the_link(region, elements))
        self._expect(Opcode.DONE)

    @_alone
    def first_fault(
        self, layer: int, kind: Kind, expected: NDArray[np.int64], row: int = 0
    ) -> tuple[int, int, int, int] | None:
        """Compares rows of a region with what they should hold, shape (rows, lanes); the link carries 4 bytes where
        they do, and some more for each halving of the rows where they don't.

        Returns None, or the first element that differs: (row, lane, expected, actual).
        """
        region = self._regions[layer, kind]
        if self._sum(layer, kind, row, len(expected)) == zlib.crc32(_on_the_link(region, expected)):
            return None
        half = len(expected) // 2
        if half:
            first = self.first_fault(layer, kind, expected[:half], row)
            return first or self.first_fault(layer, kind, expected[half:], row + half)
        actual = self.read(layer, kind, row, 1)[0]
        differs = np.flatnonzero(actual != expected[0])
        if not len(differs):  # gone since
            return None
        lane = int(differs[0])
        return row, lane, int(expected[0, lane]), int(actual[lane])

    def _sum(self, layer: int, kind: Kind, row: int, rows: int) -> int:
        """The chip's CRC-32 of rows of a region."""
        self._link.write(_request(Opcode.CHECK, layer, kind, row, rows))
        self._expect(Opcode.SUM)
        return int.from_bytes(self._link.read(4), "little")

    def _expect(self, opcode: Opcode) -> None:
        _expect(self._link, opcode)

    @property
    def link_counters(self) -> LinkCounters:
        """What the line did in this session."""
        return self._link.counters

    # -- samples ---------------------------------------------------------------------------------------

    @_alone
    def stream(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        progress: Callable[[int], None] = lambda done: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Results:
        records = bytearray()
        size = self._result_size
        sent = 0
        for packets, count in self._batches(pixels, labels):
            if stop():
                break
            self._link.write(packets)
            sent += count
            if sent - len(records) // size > _WINDOW:
                records += self._link.read(_BATCH * size)
                progress(len(records) // size)
        records += self._link.read(sent * size - len(records))
        progress(sent)
        return self._unpack_results(bytes(records), sent)

    def _batches(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> Iterator[tuple[bytes, int]]:
        for start in range(0, len(pixels), _BATCH):
            part = slice(start, start + _BATCH)
            batch = quantise_pixels(self.spec, pixels[part])
            packets, _ = encode_samples(batch, None if labels is None else labels[part])
            yield packets, len(batch)

    def _unpack_results(self, records: bytes, count: int) -> Results:
        table = np.frombuffer(records, np.uint8).reshape(count, self._result_size)
        if (table[:, 0] != Opcode.RESULT).any():
            number = int((table[:, 0] != Opcode.RESULT).argmax())
            raise DeviceError(
                f"{self._link.url}: expected a RESULT packet for sample {number}, got {table[number, 0]:#04x}"
            )
        layers = table[:, 1:].reshape(count, len(self.plan.layers), record_size(self._result)).astype(np.int64)
        word = (layers << (8 * np.arange(layers.shape[-1]))).sum(axis=-1)
        fields, position = {}, 0
        for name, bits in self._result.items():
            fields[name] = word >> position & (1 << bits) - 1
            position += bits
        last = len(self.plan.layers) - 1
        answered = np.full(count, last)
        if "stopped" in fields:
            stopped = fields["stopped"].astype(bool)
            answered = np.where(stopped.any(axis=1), stopped.argmax(axis=1), last)
        # Records beyond that layer are 0.
        said = np.minimum(np.arange(last + 1), answered[:, None])
        return Results(np.take_along_axis(fields["predicted"], said, axis=1), fields["error"], answered)

    # -- state -----------------------------------------------------------------------------------------

    @_alone
    def reset(self) -> None:
        if self._link.lost:
            self._link.begin()
            self._check_fingerprints()
        for plan in self.plan.layers:
            seeds = {
                Kind.CLASSIFIER_SEED: plan.classifier_seed,
                Kind.FEEDBACK_SEED: plan.feedback_seed,
            }
            for kind, seed in seeds.items():
                self._write_register(plan.index, kind, seed)
            self.write(plan.index, Kind.FROZEN, np.array([plan.frozen_flags]))
        self.write_state(self.plan.initial_state())
        self.set_decay([0] * len(self.plan.layers))
        if self.spec.early_exit:
            self.set_exits(self.plan.no_exits)
        self.clear_counters()

    @_alone
    def set_decay(self, shifts: Sequence[float]) -> None:
        check_decay(self.spec, shifts)
        common = {shift for plan, shift in zip(self.plan.layers, shifts, strict=True) if not plan.has_own_decay}
        if len(common) > 1:
            raise ValueError(f"decay {tuple(shifts)}: layers without a decay of their own share one")
        for shift in common:
            self.write(CHIP, Kind.DECAY, np.array([int(shift * 2**self.plan.decay_fraction)]))
        for plan, shift in zip(self.plan.layers, shifts, strict=True):
            if plan.has_own_decay:
                self.write(plan.index, Kind.DECAY, np.array([int(shift * 2**plan.decay_fraction)]))

    @_alone
    def set_exits(self, leads: Sequence[int]) -> None:
        check_exits(self.plan, leads)
        for plan, lead in zip(self.plan.layers, leads, strict=False):
            if plan.can_exit:
                self.write(plan.index, Kind.EXIT_LEAD, np.array([lead]))

    @_alone
    def read_layer_weights(self, layer: int) -> NDArray[np.int32]:
        """Of one layer, shape (neurons, fan_in)."""
        return self.plan.layers[layer].from_rows(self.read(layer, Kind.WEIGHTS).astype(np.int32))

    @_alone
    def read_weights(self) -> list[NDArray[np.int32]]:
        matrices = [self.read(plan.index, Kind.CLASSIFIER).astype(np.int32) for plan in self.plan.learned_matrices]
        return [self.read_layer_weights(layer) for layer in range(len(self.plan.layers))] + matrices

    @_alone
    def write_weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        layers = len(self.plan.layers)
        for plan, values in zip(self.plan.layers, weights[:layers], strict=True):
            self.write(plan.index, Kind.WEIGHTS, plan.to_rows(values).astype(np.int64))
        for plan, matrix in zip(self.plan.learned_matrices, weights[layers:], strict=True):
            self.write(plan.index, Kind.CLASSIFIER, matrix.astype(np.int64))

    @_alone
    def read_state(self) -> State:
        layers = self.plan.layers
        return State(
            self.read_weights(),
            self._read_registers(Kind.NOISE_STATE, [plan.noise_seed for plan in layers]),
            self._read_registers(Kind.MATRIX_NOISE_STATE, [plan.matrix_noise_seed for plan in layers]),
            self._read_registers(Kind.MASK_STATE, [plan.mask_seed for plan in layers]),
        )

    @_alone
    def write_state(self, state: State) -> None:
        self.write_weights(state.arrays)
        for plan, noise, matrix_noise, mask in zip(
            self.plan.layers, state.noise, state.matrix_noise, state.masks, strict=True
        ):
            self._write_register(plan.index, Kind.NOISE_STATE, noise)
            self._write_register(plan.index, Kind.MATRIX_NOISE_STATE, matrix_noise)
            self._write_register(plan.index, Kind.MASK_STATE, mask)

    def _read_registers(self, kind: Kind, seeds: Sequence[int]) -> list[int]:
        """Of every layer; where the chip has none the seed, which a model's never leaves."""
        return [
            int(self.read(layer, kind).view(np.uint64)[0, 0]) if (layer, kind) in self._regions else seed
            for layer, seed in enumerate(seeds)
        ]

    def _write_register(self, layer: int, kind: Kind, state: int) -> None:
        """Where the chip has it."""
        if (layer, kind) in self._regions:
            self.write(layer, kind, np.array([state], np.uint64).view(np.int64))

    @_alone
    def counters(self) -> Counters:
        chip = dict(zip(CHIP_COUNTERS, self.read(CHIP, Kind.COUNTERS)[:, 0].tolist(), strict=True))
        raw = [
            dict(zip(LAYER_COUNTERS, self.read(plan.index, Kind.COUNTERS)[:, 0].tolist(), strict=True))
            for plan in self.plan.layers
        ]
        layers = [
            LayerCounters(
                events=c["events"],
                words_read=c["forward"] - c["discarded"] + c["updates"],
                words_written=c["updates"],
                gradients=c["gradients"],
                learned=c["learned"],
                skipped=c["skipped"],
                saturated=c["saturated"],
            )
            for c in raw
        ]
        figures: dict[str, Any] = {name: [c[name] for c in raw] for name in ("discarded", "starved", "waiting")}
        return Counters(layers=layers, **chip, **figures)

    @_alone
    def clear_counters(self) -> None:
        for number in (CHIP, *range(len(self.plan.layers))):
            rows = self._regions[number, Kind.COUNTERS].rows
            self.write(number, Kind.COUNTERS, np.zeros(rows, np.int64))
