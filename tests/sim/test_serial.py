"""The simulated chip with its serial port: from the host through a port of the system to bits on wires, and back."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import serial
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from locallearn.fpga.top import SerialChip
from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError, ToolError
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.target import GENERIC
from locallearn.rtl.uart import UartReceiver, UartTransmitter
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated_serial import SerialSimulatedChip, WireErrors

SPEC = NetworkSpec(
    "tiny", 3, InputSpec(9), (LayerSpec(7, lanes=3), LayerSpec(5, lanes=2)), training=TrainingSpec(rate_shift=5)
)
BAUD = 1_000_000
LINK_BYTES = 4_096
CLEAN = WireErrors(lost=False, framing=0)

each_cycles = pytest.mark.parametrize("cycles", [4, 8.3], ids=["4 cycles a bit", "8 and a bit"])
each_error = pytest.mark.parametrize("error", [0, 0.02, -0.02], ids=["same clock", "far end slow", "far end fast"])

PORTS = "input clk, input rst, input rx, output tx, output lost, output busy"

PLUG = f"module top({PORTS}); assign tx = rx; assign lost = 0; assign busy = 0; endmodule"
"""Both wires joined."""

BREAKER = f"""
    module top({PORTS});
      reg [7:0] low = 0, pulled = 0;
      reg seen = 0;
      always @(posedge clk) begin
        low <= rx ? 0 : low + 1;
        if (low == 34) begin pulled <= 100; seen <= 1; end
        else if (pulled != 0) pulled <= pulled - 1;
      end
      assign tx = rx && pulled == 0;
      assign lost = seen;
      assign busy = pulled != 0;
    endmodule
"""
"""Both wires joined, at 4 cycles a bit; after a byte of zeros its answer's stop bit is missing, and `lost` is set."""


class Echo(wiring.Component):
    """Bytes in, the same bytes out, of which `depth` can wait."""

    rx: Signal
    tx: Signal
    lost: Signal
    busy: Signal

    def __init__(self, cycles: float, depth: int) -> None:
        self._clock_hz = cycles * BAUD
        self._depth = depth
        super().__init__({"rx": In(1), "tx": Out(1), "lost": Out(1), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._clock_hz, BAUD)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8, depth=self._depth)
        m.submodules.transmitter = transmitter = UartTransmitter(self._clock_hz, BAUD)
        taken: stream.Interface = fifo.w_stream
        wiring.connect(m, receiver.o, taken)
        wiring.connect(m, fifo.r_stream, transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), self.busy.eq(fifo.level != 0)]
        m.d.sync += self.lost.eq(self.lost | receiver.lost)
        return m


def serial_chip(cycles: float) -> str:
    return to_verilog(SerialChip(SPEC, GENERIC, cycles * BAUD, BAUD, LINK_BYTES))


def connect(chip: SerialSimulatedChip) -> serial.SerialBase:
    return serial.serial_for_url(chip.url, BAUD, timeout=60)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_framing_errors(chip: SerialSimulatedChip, count: int) -> None:
    deadline = time.monotonic() + 60
    while chip.errors().framing < count:
        assert time.monotonic() < deadline


@pytest.fixture
def plug(cache: Path) -> Iterator[SerialSimulatedChip]:
    with SerialSimulatedChip(PLUG, 4, cache_dir=cache) as chip:
        yield chip


# -- a network that learns -----------------------------------------------------------------------------


@each_error
@each_cycles
def test_learns_as_the_golden_model(cache: Path, cycles: float, error: float) -> None:
    """Through the host's own code, in two turns: the port is closed in between, and the chip remembers."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (800, 9), dtype=np.uint8)
    labels = random.integers(0, 3, 800)
    with (
        ModelDevice(SPEC) as model,
        SerialSimulatedChip(serial_chip(cycles), cycles, error, cache_dir=cache, optimise=False) as chip,
    ):
        for turn, part in enumerate((slice(0, 700), slice(700, 800))):
            with ChipDevice(SPEC, Link(chip.url, baud=BAUD)) as device:
                if turn == 0:
                    device.reset()
                expected = model.stream(pixels[part], labels[part])
                results = device.stream(pixels[part], labels[part])
                assert np.array_equal(results.predicted, expected.predicted)
                assert np.array_equal(results.error, expected.error)
                for weights, golden in zip(device.read_weights(), model.read_weights(), strict=True):
                    assert np.array_equal(weights, golden)
                assert device.counters().link_errors == 0
        assert chip.errors() == CLEAN


@pytest.mark.parametrize("error", [0.08, -0.08], ids=["far end slow", "far end fast"])
def test_another_rate_is_noticed(cache: Path, error: float) -> None:
    with SerialSimulatedChip(serial_chip(4), 4, error, cache_dir=cache, optimise=False) as chip:
        with pytest.raises(DeviceError):
            ChipDevice(SPEC, Link(chip.url, 1.0, BAUD)).reset()
        assert chip.errors() != CLEAN


# -- bytes ---------------------------------------------------------------------------------------------


@each_error
@each_cycles
def test_all_bytes_both_ways(cache: Path, cycles: float, error: float) -> None:
    verilog = to_verilog(Echo(cycles, 1024))
    sent = bytes(range(256)) + Random(1).randbytes(4_000)
    with SerialSimulatedChip(verilog, cycles, error, cache_dir=cache) as chip, connect(chip) as link:
        link.write(sent)
        assert link.read(len(sent)) == sent
        for byte in range(256):
            link.write(bytes([byte]))
            assert link.read(1) == bytes([byte])
        assert chip.errors() == CLEAN


def test_host_may_write_everything_before_it_reads(plug: SerialSimulatedChip) -> None:
    """Far more than the system keeps for a port."""
    sent = Random(2).randbytes(1_000_000)
    with connect(plug) as link:
        link.write(sent)
        time.sleep(0.5)
        assert link.read(len(sent)) == sent
    assert plug.errors() == CLEAN


def test_nothing_holds_back_what_the_chip_cannot_take(cache: Path) -> None:
    """A far end that is 2 % fast fills all that lies between it and the chip's transmitter."""
    sent = bytes(20_000)
    with SerialSimulatedChip(to_verilog(Echo(4, 16)), 4, -0.02, cache_dir=cache) as chip, connect(chip) as link:
        link.timeout = 1
        link.write(sent)
        assert 0.9 * len(sent) < len(link.read(len(sent))) < len(sent)
        assert chip.errors() == WireErrors(lost=True, framing=0)


def test_framing_errors_are_counted(cache: Path) -> None:
    with SerialSimulatedChip(BREAKER, 4, cache_dir=cache) as chip, connect(chip) as link:
        for count in range(3):
            link.write(b"good")
            assert link.read(4) == b"good"
            assert chip.errors() == WireErrors(lost=count > 0, framing=count)
            link.write(b"\0")
            wait_for_framing_errors(chip, count + 1)
        link.timeout = 0.1
        assert link.read(1) == b""


# -- the port ------------------------------------------------------------------------------------------


def test_port_is_raw_before_anybody_has_set_it(plug: SerialSimulatedChip) -> None:
    """No echo, no lines, no characters with a meaning."""
    sent = bytes(range(256))
    port = os.open(plug.url, os.O_RDWR | os.O_NOCTTY)
    os.write(port, sent)
    received = b""
    while len(received) <= len(sent) and select.select([port], [], [], 2)[0]:
        received += os.read(port, len(sent))
    os.close(port)
    assert received == sent


def test_what_is_said_to_a_closed_port_is_lost(plug: SerialSimulatedChip) -> None:
    for turn in range(3):
        with connect(plug) as link:
            link.write(b"nobody waits for this")
        for _ in range(10):
            plug.errors()  # each is at least one look at the port and 1,000 cycles
        with connect(plug) as link:
            link.write(bytes([turn]))
            assert link.read(1) == bytes([turn])


def test_sleeps_while_nothing_is_under_way(plug: SerialSimulatedChip) -> None:
    """Whether the port is closed or open."""
    before = processor_seconds(plug.pid)
    time.sleep(0.5)
    with connect(plug) as link:
        link.write(b"x")
        assert link.read(1) == b"x"
        time.sleep(0.5)
    assert processor_seconds(plug.pid) - before < 0.1


# -- the process ---------------------------------------------------------------------------------------


def test_close_ends_the_simulator(cache: Path) -> None:
    chip = SerialSimulatedChip(PLUG, 4, cache_dir=cache)
    assert Path(chip.url).exists()
    chip.close()
    assert not Path(chip.url).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(chip.pid, 0)
    chip.close()


@pytest.mark.parametrize("busy", [False, True])
def test_simulator_ends_with_its_parent(cache: Path, busy: bool) -> None:
    script = "import sys; from pathlib import Path; "
    script += "from locallearn.sim.simulated_serial import SerialSimulatedChip; "
    script += "chip = SerialSimulatedChip(sys.argv[1], 900_000, cache_dir=Path(sys.argv[2])); "
    script += "print(chip.url, flush=True); input()"
    command = [sys.executable, "-c", script, PLUG, str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        with serial.serial_for_url(url, timeout=60) as link:
            if busy:
                link.write(bytes(10_000))  # work for hours
            parent.kill()
            parent.wait()
            with pytest.raises(serial.SerialException):
                link.read(1000)


def test_report_of_a_simulator_that_has_ended(plug: SerialSimulatedChip) -> None:
    os.kill(plug.pid, signal.SIGKILL)
    with pytest.raises(ToolError, match="simulated chip has ended"):
        plug.errors()


@pytest.mark.parametrize("cycles", [0.99, -4, float("nan"), float("inf")])
def test_bits_that_no_chip_can_have(cycles: float) -> None:
    with pytest.raises(ValueError, match=r"a bit of .* cycles: must be 1 to 1000000"):
        SerialSimulatedChip(PLUG, cycles)
