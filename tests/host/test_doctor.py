"""Faults of a chip, made in its Verilog: found, and said with their place."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.datasets import load
from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.doctor import Finding, examine
from locallearn.host.link import Link
from locallearn.host.train import Display
from locallearn.quant.errors import DeviceError, Mismatch
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, Kind
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.host.test_cli import fail, succeed
from tests.host.test_resume import SPEC
from tests.host.test_state import assert_same_state

PLANS = NetworkPlan(SPEC).layers

UPSET_CYCLE = 300_000
UPSETS = {0: (137, 29), 1: (41, 14)}
"""Row and bit of the weight memory, by layer: all lanes side by side, 12 bits each."""


def with_memory_fault(verilog: str, layer: int, fault: str) -> str:
    """`fault` beside the memory of a layer's weights."""
    module = rf"(?<=module \\top\.chip\.layer_{layer}\.bank_0\.memory\.bank_0_bit_0).*?reg \[\d+:0\] memory \[\d+:0\];"
    changed, count = re.subn(module, lambda found: found[0] + "\n" + fault, verilog, count=1, flags=re.DOTALL)
    assert count == 1
    return changed


def connected(verilog: str) -> Iterator[ChipDevice]:
    with SimulatedChip(verilog, optimise=False) as chip, ChipDevice(SPEC, Link(chip.url)) as device:
        device.name = "sim"
        yield device


@pytest.fixture(scope="module")
def upset() -> Iterator[ChipDevice]:
    """A bit of each layer's weights changes by itself, in one cycle."""
    verilog = chip_verilog(SPEC)
    for layer, (row, bit) in UPSETS.items():
        flip = f"if (age == {UPSET_CYCLE}) memory[{row}][{bit}] <= ~memory[{row}][{bit}];"
        fault = f"reg [31:0] age = 0; always @(posedge clk) begin age <= age + 1; {flip} end"
        verilog = with_memory_fault(verilog, layer, fault)
    yield from connected(verilog)


def test_upsets_are_found(upset: ChipDevice) -> None:
    """The chip sums up its weights by itself; only where a sum is wrong are they looked at."""
    data = load("digits")
    golden = ModelDevice(SPEC)
    upset.reset()
    for device in (upset, golden):
        device.stream(data.train_x[:50], data.train_y[:50])
    rows = [plan.to_rows(weights).astype(np.int64) for plan, weights in zip(PLANS, golden.read_weights(), strict=False)]
    while not (faults := [upset.first_fault(layer, Kind.WEIGHTS, rows[layer]) for layer in UPSETS])[1]:
        passed = upset.read(CHIP, Kind.COUNTERS)[CHIP_COUNTERS.index("cycles"), 0]
        assert passed < UPSET_CYCLE
        assert faults[0] is None
    faults[0] = faults[0] or upset.first_fault(0, Kind.WEIGHTS, rows[0])
    for layer, (row, bit) in UPSETS.items():
        lane, place = divmod(bit, 12)
        expected = int(rows[layer][row, lane])
        flipped = (expected & 0xFFF) ^ 1 << place
        actual = flipped - (flipped >> 11 << 12)
        assert faults[layer] == (row, lane, expected, actual), f"layer {layer}"
        # There is no other.
        upset.write(layer, Kind.WEIGHTS, rows[layer][row : row + 1], row)
        assert upset.first_fault(layer, Kind.WEIGHTS, rows[layer]) is None


@pytest.fixture(scope="module")
def well() -> Iterator[ChipDevice]:
    yield from connected(chip_verilog(SPEC))


def test_a_chip_that_is_well(well: ChipDevice) -> None:
    data = load("digits")
    well.reset()
    well.stream(data.train_x[:20], data.train_y[:20])
    before = well.read_state()
    found = list(examine(well, Display()))
    assert all(finding.well for finding in found), found
    memories = ["layer 0, weights", "layer 0, classifier", "layer 1, weights"]
    assert [finding.what for finding in found] == ["link", *memories, "layers"]
    assert found[1].text == "260 rows of 4 words of 12 bits"
    assert_same_state("kept", before, well.read_state())


@pytest.fixture(scope="module")
def broken() -> Iterator[ChipDevice]:
    """In layer 0 a bit stays 0 whatever is written, in layer 1 a row's words are another's too."""
    verilog = with_memory_fault(chip_verilog(SPEC), 0, "always @(posedge clk) memory[77][40] <= 1'b0;")
    before, after = ".address(address)", ".address(address == 7'd50 ? 7'd18 : address)"
    module = re.search(r"module \\top\.chip\.layer_1\.bank_0\.memory \(.*?endmodule", verilog, flags=re.DOTALL)
    assert module and module[0].count(before) == 1
    yield from connected(verilog.replace(module[0], module[0].replace(before, after)))


def test_a_broken_chip(broken: ChipDevice) -> None:
    broken.reset()
    link, weights, classifier, others, layers = examine(broken, Display())
    assert link.well and classifier.well
    assert not weights.well
    place = re.fullmatch(
        r"row 77, lane 3: wrote (?P<wrote>\d{12}), read (?P<read>\d{12}) \(neuron (\d+), input (\d+)\)", weights.text
    )
    assert place, weights.text
    assert int(place["wrote"], 2) ^ int(place["read"], 2) == 1 << 4
    plan = PLANS[0]
    weight = np.zeros((plan.neurons, plan.fan_in), np.int32)
    weight[int(place[3]), int(place[4])] = 1
    assert np.argwhere(plan.to_rows(weight)).tolist() == [[77, 3]]
    assert not others.well
    # What is read there was written elsewhere: the row that is looked at last says so.
    assert re.match(r"row (50|18), lane \d: wrote", others.text), others.text
    assert not layers.well
    assert re.match(r"sample \d, layer [01], .*: expected .*, actual .* \(cycle \d+\)", layers.text), layers.text


# -- the command ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "resumed.toml"
    path.write_text(SPEC.to_toml())
    return path


def test_command(well: ChipDevice, description: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = well._link.url
    # A chip has one host at a time.
    well._link.close()
    summary = succeed(capsys, "doctor", url, "--network", description)
    assert [finding["well"] for finding in summary["findings"]] == [True] * 5
    code, message = fail(capsys, "doctor", url)
    assert code == DeviceError.exit_code
    assert re.search(rf"the chip's network \(fingerprint {SPEC.fingerprint:08x}\) is none of the presets", message)


def test_command_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], well: ChipDevice, description: Path
) -> None:
    """With what a broken chip's examination comes to."""
    findings = [Finding("link", True, "fast"), Finding("layer 1, weights", False, "row 3, lane 0: ...")]
    monkeypatch.setattr("locallearn.host.commands_doctor.examine", lambda device, display: iter(findings))
    code, message = fail(capsys, "doctor", well._link.url, "--network", description)
    assert code == Mismatch.exit_code
    assert "something is wrong with: layer 1, weights" in message


@pytest.mark.parametrize("device", ["model", "numpy"])
def test_a_model_needs_no_doctor(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = fail(capsys, "doctor", device)
    assert (code, message) == (DeviceError.exit_code, "locallearn: doctor examines a chip: sim or its port")
