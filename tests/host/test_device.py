"""The chip's host side against a scripted far end: what it sends, how it reads answers, and how it fails."""

import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError
from locallearn.quant.packets import ACCESS, Opcode, encode_samples, pack, record_size, result_fields
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, LAYER_COUNTERS, Kind, interface_fingerprint
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from tests.compare import assert_same
from tests.host.fake_chip import FakeChip

SPEC = NetworkSpec("two", 3, InputSpec(4), (LayerSpec(5, lanes=2), LayerSpec(3, lanes=3)))
PLAN = NetworkPlan(SPEC)

HEADER = 1 + record_size(ACCESS)
RESULTS = 1 + len(SPEC.layers) * record_size(result_fields(PLAN))


def hello(spec: NetworkSpec) -> tuple[int, bytes]:
    """What a chip says first."""
    prints = spec.fingerprint, interface_fingerprint(NetworkPlan(spec))
    return HEADER, bytes([Opcode.DATA]) + b"".join(each.to_bytes(4, "little") for each in prints)


HELLO = hello(SPEC)
PATIENCE_S = 0.2


def connect(fake: FakeChip) -> ChipDevice:
    return ChipDevice(SPEC, Link(fake.url, PATIENCE_S))


def request(opcode: Opcode, layer: int, kind: Kind, row: int, rows: int) -> bytes:
    return bytes([opcode]) + pack(ACCESS, layer=layer, kind=kind, row=row, rows=rows)


def result(*layers: tuple[int, int]) -> bytes:
    records = (pack(result_fields(PLAN), predicted=predicted, error=error) for predicted, error in layers)
    return bytes([Opcode.RESULT]) + b"".join(records)


def fails(fake: FakeChip, message: str) -> "pytest.RaisesExc[DeviceError]":
    """What the block raises is a DeviceError with just this message behind the device's name."""
    return pytest.raises(DeviceError, match=f"^{re.escape(f'{fake.url}: {message}')}$")


# -- connecting ----------------------------------------------------------------------------------------


def test_asks_for_the_fingerprint_first() -> None:
    with FakeChip(HELLO) as fake, connect(fake) as device:
        assert device.name == fake.url
    assert fake.requests == [request(Opcode.READ, CHIP, Kind.FINGERPRINT, 0, 2)]


def test_another_chip() -> None:
    answer = bytes([Opcode.DATA, 0xEF, 0xBE, 0xAD, 0x0B]) + HELLO[1][5:]
    mine = f"than two ({SPEC.fingerprint:08x})"
    message = f"the chip was built from another description (fingerprint 0badbeef) {mine}"
    with FakeChip((HEADER, answer)) as fake, Link(fake.url) as link, fails(fake, message):
        ChipDevice(SPEC, link)


def test_another_version() -> None:
    answer = HELLO[1][:5] + bytes([0xEF, 0xBE, 0xAD, 0x0B])
    mine = f"this host's {interface_fingerprint(PLAN):08x}"
    message = f"the chip was built by another version of locallearn (its interface is 0badbeef, {mine}): build it again"
    with FakeChip((HEADER, answer)) as fake, Link(fake.url) as link, fails(fake, message):
        ChipDevice(SPEC, link)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Bound, so that nobody else takes it, but not listened at."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_nobody_listens(unused_port: int) -> None:
    url = f"socket://127.0.0.1:{unused_port}"
    with pytest.raises(DeviceError) as caught:
        Link(url)
    assert str(caught.value).startswith(f"{url}: cannot be opened (Could not open port")
    assert "refused" in str(caught.value)
    assert str(caught.value).endswith("a device is sim, model, a port such as /dev/ttyUSB0 or socket://host:port")


@pytest.mark.parametrize("url", ["/dev/no-such-port", "carrier-pigeon://coop", "socket://no-port", "socket://host:x"])
def test_no_such_device(url: str) -> None:
    with pytest.raises(DeviceError, match=f"^{re.escape(url)}: cannot be opened .* a device is sim, model, a port"):
        Link(url)


# -- answers that go wrong -----------------------------------------------------------------------------


def test_no_answer() -> None:
    with (
        FakeChip() as fake,
        Link(fake.url, PATIENCE_S) as link,
        fails(fake, "no answer, though the chip is at rest; 0 of 1 bytes had come"),
    ):
        ChipDevice(SPEC, link)


def test_half_an_answer() -> None:
    with (
        FakeChip((HEADER, HELLO[1][:3])) as fake,
        Link(fake.url, PATIENCE_S) as link,
        fails(fake, "no answer, though the chip is at rest; 2 of 8 bytes had come"),
    ):
        ChipDevice(SPEC, link)


def test_read_is_answered_by_something_else() -> None:
    with (
        FakeChip(HELLO, (HEADER, bytes([Opcode.RESULT]))) as fake,
        connect(fake) as device,
        fails(fake, "expected a DATA packet (0x81), got 0x90"),
    ):
        device.read(0, Kind.WEIGHTS)


def test_write_is_answered_by_something_else() -> None:
    with (
        FakeChip(HELLO, (HEADER + 1, b"\0")) as fake,
        connect(fake) as device,
        fails(fake, "expected a DONE packet (0x82), got 0x00"),
    ):
        device.set_decay([1] * len(PLAN.layers))


def test_sample_is_answered_by_something_else() -> None:
    pixels, labels = np.ones((3, 4), np.uint8), np.zeros(3, np.int64)
    good, bad = result((0, 0), (0, 0)), bytes([Opcode.DATA]) + bytes(RESULTS - 1)
    with (
        FakeChip(HELLO, (3 * 6, good + bad + good)) as fake,
        connect(fake) as device,
        fails(fake, "expected a RESULT packet for sample 1, got 0x81"),
    ):
        device.stream(pixels, labels)


# -- regions -------------------------------------------------------------------------------------------


def test_reads_signed_elements() -> None:
    elements = [-1, 1, -2048, 2047]
    raw = b"".join(element.to_bytes(2, "little", signed=True) for element in elements)
    with FakeChip(HELLO, (HEADER, bytes([Opcode.DATA]) + raw)) as fake, connect(fake) as device:
        assert_same("weight", [[-1, 1], [-2048, 2047]], device.read(0, Kind.WEIGHTS, row=3, rows=2))
    assert fake.requests[1:] == [request(Opcode.READ, 0, Kind.WEIGHTS, 3, 2)]


def test_reads_unsigned_elements() -> None:
    raw = b"".join(count.to_bytes(6, "little") for count in (1, 1 << 47, 255, 0, 7))
    with FakeChip(HELLO, (HEADER, bytes([Opcode.DATA]) + raw)) as fake, connect(fake) as device:
        assert_same("counter", [[1], [1 << 47], [255], [0], [7]], device.read(CHIP, Kind.COUNTERS))
    assert fake.requests[1:] == [request(Opcode.READ, CHIP, Kind.COUNTERS, 0, 5)]


def test_reads_and_writes_64_bits() -> None:
    state = (0xFEDCBA9876543210).to_bytes(8, "little")
    script = (HELLO, (HEADER, bytes([Opcode.DATA]) + state), (HEADER + 8, bytes([Opcode.DONE])))
    with FakeChip(*script) as fake, connect(fake) as device:
        read = device.read(1, Kind.NOISE_STATE)
        assert int(read.view(np.uint64)[0, 0]) == 0xFEDCBA9876543210
        device.write(1, Kind.NOISE_STATE, read)
    assert fake.requests[2] == request(Opcode.WRITE, 1, Kind.NOISE_STATE, 0, 1) + state


def test_reads_no_rows() -> None:
    with FakeChip(HELLO, (HEADER, bytes([Opcode.DATA]))) as fake, connect(fake) as device:
        assert device.read(0, Kind.WEIGHTS, row=1, rows=0).shape == (0, 2)


def test_writes_rows_from_a_row_on() -> None:
    with FakeChip(HELLO, (HEADER + 8, bytes([Opcode.DONE]))) as fake, connect(fake) as device:
        device.write(0, Kind.WEIGHTS, np.array([[-1, 2], [300, -300]]), row=5)
    data = b"".join(weight.to_bytes(2, "little", signed=True) for weight in (-1, 2, 300, -300))
    assert fake.requests[1] == request(Opcode.WRITE, 0, Kind.WEIGHTS, 5, 2) + data


def test_writes_arrays_of_any_memory_order() -> None:
    with FakeChip(HELLO, (HEADER + 8, bytes([Opcode.DONE]))) as fake, connect(fake) as device:
        device.write(0, Kind.WEIGHTS, np.array([[1, 2], [3, 4]]).T)
    assert fake.requests[1][HEADER:] == bytes([1, 0, 3, 0, 2, 0, 4, 0])


def test_counters_are_named() -> None:
    """The n-th counter of the chip is n, those of layer l are 100 (l + 1) + n."""

    def answer(first: int, count: int) -> bytes:
        return bytes([Opcode.DATA]) + b"".join((first + n).to_bytes(6, "little") for n in range(count))

    layers = [(HEADER, answer(100 * (number + 1), len(LAYER_COUNTERS))) for number in range(2)]
    with FakeChip(HELLO, (HEADER, answer(0, len(CHIP_COUNTERS))), *layers) as fake, connect(fake) as device:
        counters = device.counters()
    assert (counters.cycles, counters.samples, counters.link_errors) == (0, 1, 2)
    assert (counters.bad_frames, counters.missed_frames) == (3, 4)
    assert (counters.discarded, counters.starved, counters.waiting) == ([102, 202], [108, 208], [109, 209])
    second = counters.layers[1]
    assert (second.events, second.gradients, second.learned, second.skipped) == (200, 203, 205, 206)
    assert second.saturated == 207
    # Rows of forward passes but those thrown away, and of updates.
    assert second.words_read == 201 - 202 + 204
    assert second.words_written == 204


# -- samples -------------------------------------------------------------------------------------------


def test_results_are_unpacked() -> None:
    pixels, labels = np.array([[0, 1, 0, 2], [3, 0, 0, 0]], np.uint8), np.array([2, 0])
    packets, _ = encode_samples(pixels, labels)
    answers = result((2, 0), (1, 64)) + result((0, 63), (2, 1))
    with FakeChip(HELLO, (len(packets), answers)) as fake, connect(fake) as device:
        results = device.stream(pixels, labels)
    assert fake.requests[1] == packets
    assert_same("predicted", [[2, 1], [0, 2]], results.predicted)
    assert_same("error", [[0, 64], [63, 1]], results.error)
    assert results.accuracy(labels) == [100.0, 0.0]


def test_pixels_are_sent_in_the_input_format() -> None:
    spec = NetworkSpec("", 2, InputSpec(4, bits=3, fraction=3), (LayerSpec(2),))
    script = (hello(spec), (2 + 2 + 2, bytes([Opcode.RESULT, 0])))
    with FakeChip(*script) as fake, ChipDevice(spec, Link(fake.url, PATIENCE_S)) as device:
        device.stream(np.array([[31, 0, 32, 255]], np.uint8), None)
    assert fake.requests[1] == bytes([Opcode.INFER, 0, 0, 1, 1, 7])


def test_no_samples() -> None:
    with FakeChip(HELLO) as fake, connect(fake) as device:
        results = device.stream(np.zeros((0, 4), np.uint8), None)
    assert results.predicted.shape == results.error.shape == (0, 2)


def test_stops_where_told() -> None:
    """Batches of 64: the second question whether to stop comes before the second batch."""
    pixels = np.ones((1000, 4), np.uint8)
    packet = 6
    seen = []
    with FakeChip(HELLO, (64 * packet, 64 * result((1, 0), (2, 0)))) as fake, connect(fake) as device:
        answers = iter([False, True])
        results = device.stream(pixels, None, seen.append, lambda: next(answers))
    assert len(results) == 64
    assert seen == [64]


def test_progress_while_results_come() -> None:
    """At most 512 samples are sent ahead of their results; from then on batches go out as batches come in."""
    pixels = np.ones((700, 4), np.uint8)
    packet, batch = 6, 64 * result((0, 0), (0, 0))
    script = [(576 * packet, batch), (64 * packet, batch), (60 * packet, bytes(result((0, 0), (0, 0))) * 572)]
    seen = []
    with FakeChip(HELLO, *script) as fake, connect(fake) as device:
        assert len(device.stream(pixels, None, seen.append)) == 700
    assert seen == [64, 128, 192, 700]


# -- the golden model as a device ----------------------------------------------------------------------


def test_model_stops_where_told() -> None:
    answers = iter([False, True])
    seen = []
    with ModelDevice(SPEC) as device:
        results = device.stream(np.ones((1000, 4), np.uint8), None, seen.append, lambda: next(answers))
        assert len(results) == 256
        assert device.counters().samples == 256
    assert seen == [256]


def test_model_forgets_on_reset() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 4), np.uint8), rng.integers(0, 3, 20)
    with ModelDevice(SPEC) as device:
        first = device.stream(pixels, labels)
        learned = device.read_weights()
        device.set_decay([2] * len(PLAN.layers))
        device.reset()
        for plan, weights in zip(PLAN.layers, device.read_weights(), strict=True):
            assert_same(f"layer {plan.index}: weight", plan.initial_weights(), weights)
        assert device.counters().samples == 0
        second = device.stream(pixels, labels)
        assert_same("predicted", first.predicted, second.predicted)
        for index, (before, after) in enumerate(zip(learned, device.read_weights(), strict=True)):
            assert_same(f"layer {index}: weight", before, after)
