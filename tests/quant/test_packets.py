"""Packets and regions: the fast encoder against a plain one, and one layout for host and RTL."""

import numpy as np
import pytest
from amaranth import unsigned
from amaranth.lib.data import StructLayout
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from locallearn.quant.formats import QFormat
from locallearn.quant.layer_spec import MAX_DECAY, MAX_NEURONS
from locallearn.quant.packets import (
    ACCESS,
    MAX_RUN,
    Opcode,
    encode_samples,
    pack,
    record_size,
    result_fields,
    unpack,
)
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import (
    CHIP,
    CHIP_COUNTERS,
    COUNTER_BITS,
    ELEMENT_BITS,
    LAYER_COUNTERS,
    Kind,
    regions,
)
from locallearn.quant.spec import (
    MAX_CLASSES,
    MAX_INPUTS,
    MAX_LAYERS,
    InputSpec,
    LayerSpec,
    NetworkSpec,
    TrainingSpec,
)
from tests.compare import assert_same
from tests.strategies import specs

# -- samples -------------------------------------------------------------------------------------------


def encode(pixels: list[int], label: int | None) -> bytes:
    """One packet, pixel by pixel."""
    packet = [Opcode.INFER, 0] if label is None else [Opcode.TRAIN, label]
    zeros = 0
    for pixel in pixels:
        if pixel == 0:
            zeros += 1
        if zeros == 256 or (pixel != 0 and zeros):
            packet += [0, zeros - 1]
            zeros = 0
        if pixel != 0:
            packet.append(pixel)
    if zeros:
        packet += [0, zeros - 1]
    return bytes(packet)


@st.composite
def images(draw: DrawFn) -> np.ndarray:
    """Samples of one size made of runs of zeros, some of them longer than a packet's run, and of pixels."""
    size = draw(st.integers(1, 700))
    zeros = st.integers(0, 600) | st.sampled_from([MAX_RUN - 1, MAX_RUN, MAX_RUN + 1, 2 * MAX_RUN])
    samples = np.zeros((draw(st.integers(0, 4)), size), np.uint8)
    for sample in samples:
        position = draw(zeros)
        while position < size:
            sample[position] = draw(st.integers(1, 255))
            position += 1 + draw(st.just(0) | zeros)
    return samples


def assert_encodes(pixels: np.ndarray, labels: np.ndarray | None) -> None:
    expected = [
        encode(sample.tolist(), None if labels is None else int(labels[number])) for number, sample in enumerate(pixels)
    ]
    packets, ends = encode_samples(pixels, labels)
    assert packets.hex(" ") == b"".join(expected).hex(" ")
    assert_same("end", np.cumsum([len(packet) for packet in expected], dtype=int), ends)


@given(images(), st.data())
def test_encodes_as_plainly(pixels: np.ndarray, data: st.DataObject) -> None:
    labels = data.draw(st.none() | st.lists(st.integers(0, 255), min_size=len(pixels), max_size=len(pixels)))
    assert_encodes(pixels, None if labels is None else np.array(labels, np.int64))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 513])
@pytest.mark.parametrize("pixel", [0, 1, 255])
def test_encodes_uniform_images(size: int, pixel: int) -> None:
    assert_encodes(np.full((2, size), pixel, np.uint8), np.array([0, 255]))


def test_encodes_nothing() -> None:
    packets, ends = encode_samples(np.zeros((0, 4), np.uint8), None)
    assert packets == b""
    assert ends.shape == (0,)


def test_an_encoded_sample() -> None:
    """By hand: a pixel, a run of 300 zeros in two parts, a pixel, a run of one zero at the end."""
    pixels = np.zeros((1, 303), np.uint8)
    pixels[0, 0], pixels[0, 301] = 7, 9
    packets, _ = encode_samples(pixels, np.array([3]))
    assert packets == bytes([0x11, 3, 7, 0, 255, 0, 43, 9, 0, 0])


# -- records -------------------------------------------------------------------------------------------


@st.composite
def records(draw: DrawFn) -> tuple[dict[str, int], dict[str, int]]:
    """Fields with their widths, and a value for each."""
    widths = draw(st.lists(st.integers(1, 64), min_size=1, max_size=6))
    fields = {f"field_{number}": width for number, width in enumerate(widths)}
    return fields, {name: draw(st.integers(0, (1 << width) - 1)) for name, width in fields.items()}


@given(records())
def test_unpacks_what_was_packed(record: tuple[dict[str, int], dict[str, int]]) -> None:
    fields, values = record
    packed = pack(fields, **values)
    assert len(packed) == record_size(fields)
    assert unpack(fields, packed) == values


@given(records())
def test_packs_as_the_rtl_does(record: tuple[dict[str, int], dict[str, int]]) -> None:
    fields, values = record
    layout = StructLayout({name: unsigned(width) for name, width in fields.items()})
    assert int.from_bytes(pack(fields, **values), "little") == layout.const(values).as_value().value


@pytest.mark.parametrize("row", [-1, 1 << 32])
def test_does_not_pack_what_does_not_fit(row: int) -> None:
    with pytest.raises(ValueError, match=f"^row = {row}: does not fit 32 bits$"):
        pack(ACCESS, layer=0, kind=Kind.WEIGHTS, row=row, rows=1)


def test_a_packed_access() -> None:
    """By hand: the layer, the kind, then both row numbers, little endian."""
    packed = pack(ACCESS, layer=CHIP, kind=Kind.COUNTERS, row=0x01020304, rows=5)
    assert packed.hex(" ") == "ff 02 04 03 02 01 05 00 00 00"


def test_opcodes_differ() -> None:
    """Answers from requests too, and none is 0 or 255, what a silent or a broken line reads as."""
    assert len({int(opcode) for opcode in Opcode}) == len(Opcode)
    assert all(0 < opcode < 255 for opcode in Opcode)


# -- regions -------------------------------------------------------------------------------------------

LARGEST = NetworkSpec(
    "the largest of everything",
    MAX_CLASSES,
    InputSpec(MAX_INPUTS),
    (LayerSpec(MAX_NEURONS),) * MAX_LAYERS,
    activation=QFormat(8, 8),
    weight=QFormat(16, 0, signed=True),
    error_bits=8,
    training=TrainingSpec(rate_shift=0, decay=(MAX_DECAY,)),
)


def assert_fits_the_link(plan: NetworkPlan) -> None:
    for (layer, kind), region in regions(plan).items():
        where = f"{layer}, {kind.name}"
        assert layer < 1 << ACCESS["layer"], where
        assert kind < 1 << ACCESS["kind"], where
        assert 0 < region.rows < 1 << ACCESS["rows"], where
        assert region.lanes > 0, where
        assert 8 * (region.size - 1) < region.bits <= 8 * region.size <= ELEMENT_BITS, where


@given(specs(max_inputs=2000, max_neurons=300, max_classes=256))
def test_regions_fit_the_link(spec: NetworkSpec) -> None:
    assert_fits_the_link(NetworkPlan(spec))


def test_the_largest_regions_fit_the_link() -> None:
    plan = NetworkPlan(LARGEST)
    assert len(regions(plan)) == 3 + 9 * MAX_LAYERS
    assert_fits_the_link(plan)


def test_no_layer_is_called_chip() -> None:
    assert MAX_LAYERS <= CHIP


@given(specs(max_classes=256))
def test_regions_hold_their_extremes(spec: NetworkSpec) -> None:
    plan = NetworkPlan(spec)
    table = regions(plan)
    assert spec.fingerprint < 1 << table[CHIP, Kind.FINGERPRINT].bits
    assert max(spec.training.decay) < 1 << table[CHIP, Kind.DECAY].bits
    assert table[CHIP, Kind.COUNTERS].rows == len(CHIP_COUNTERS)
    for p in plan.layers:
        weights = table[p.index, Kind.WEIGHTS]
        assert (weights.rows, weights.lanes) == p.to_rows(p.initial_weights()).shape
        assert -(1 << (weights.bits - 1)) == spec.weight.min
        assert ((p.index, Kind.ERRORS) in table) == (p.classifier.error == "local")
        if p.classifier.error == "local":
            errors = table[p.index, Kind.ERRORS]
            assert errors.signed
            assert spec.error_max(p.index) < 1 << (errors.bits - 1)
        scores = table[p.index, Kind.SCORES]
        assert scores.signed == p.signed_scores
        assert p.score_max < 1 << (scores.bits - scores.signed)
        assert p.frozen_flags < 1 << table[p.index, Kind.FROZEN].bits
        events = table[p.index, Kind.EVENTS]
        assert p.inputs << p.input_format.bits | p.input_format.max < 1 << events.bits
        assert events.rows - 1 < 1 << table[p.index, Kind.EVENT_SPAN].bits
        assert table[p.index, Kind.COUNTERS].rows == len(LAYER_COUNTERS)
        assert table[p.index, Kind.COUNTERS].bits == COUNTER_BITS


@given(specs(max_classes=256))
def test_results_hold_their_extremes(spec: NetworkSpec) -> None:
    fields = result_fields(NetworkPlan(spec))
    assert spec.classes - 1 < 1 << fields["predicted"]
    assert all(spec.error_size_max(layer) < 1 << fields["error"] for layer in range(len(spec.layers)))
