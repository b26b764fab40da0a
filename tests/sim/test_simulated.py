"""The simulated chip, from Amaranth to bytes on a socket."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Thread

import pytest
import serial
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from hypothesis import given
from hypothesis import strategies as st

from locallearn.quant.errors import ToolError
from locallearn.sim.compiler import find_compiler
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip

BYTES = stream.Signature(8)
SQUARES = [n * n % 256 for n in range(256)]
THINKING = 2000  # cycles; more than the harness runs between two looks at its socket


class Echo(wiring.Component):
    """Bytes in, the same bytes out, through a FIFO."""

    i: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self) -> None:
        super().__init__({"i": In(BYTES), "o": Out(BYTES), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8, depth=16)
        wiring.connect(m, wiring.flipped(self.i), fifo.w_stream)
        wiring.connect(m, fifo.r_stream, wiring.flipped(self.o))
        m.d.comb += self.idle.eq(fifo.level == 0)
        return m


class Census(wiring.Component):
    """Thinks over each byte, then answers its square plus the number of its kind seen before, modulo 256.

    `idle` is a register: it falls and rises a cycle late.
    """

    i: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self) -> None:
        super().__init__({"i": In(BYTES), "o": Out(BYTES), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.squares = squares = Memory(shape=8, depth=256, init=SQUARES)
        m.submodules.seen = seen = Memory(shape=8, depth=256, init=[])
        square, before, after = squares.read_port(), seen.read_port(), seen.write_port()
        byte, thought = Signal(8), Signal(range(THINKING))
        m.d.comb += [
            square.addr.eq(byte),
            before.addr.eq(byte),
            after.addr.eq(byte),
            after.data.eq(before.data + 1),
            self.o.payload.eq(square.data + before.data),
        ]
        with m.FSM() as fsm:
            with m.State("LISTEN"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [byte.eq(self.i.payload), thought.eq(0)]
                with m.If(self.i.valid):
                    m.next = "THINK"
            with m.State("THINK"):
                m.d.sync += thought.eq(thought + 1)
                with m.If(thought == THINKING - 1):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.comb += after.en.eq(1)
                    m.next = "LISTEN"
            m.d.sync += self.idle.eq(fsm.ongoing("LISTEN"))
        return m


class Clock(wiring.Component):
    """Answers each byte with the number of cycles since the start, divided by 256, modulo 256; always idle."""

    i: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self) -> None:
        super().__init__({"i": In(BYTES), "o": Out(BYTES), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = Signal(16)
        m.d.sync += cycles.eq(cycles + 1)
        m.d.comb += [
            self.o.payload.eq(cycles[8:]),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
            self.idle.eq(1),
        ]
        return m


def connect(chip: SimulatedChip) -> serial.SerialBase:
    return serial.serial_for_url(chip.url, timeout=60)


def listening(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def echo(cache: Path) -> Iterator[SimulatedChip]:
    with SimulatedChip(to_verilog(Echo()), cache_dir=cache) as chip:
        yield chip


@pytest.fixture
def census(cache: Path) -> Iterator[SimulatedChip]:
    with SimulatedChip(to_verilog(Census()), cache_dir=cache) as chip:
        yield chip


def test_echo_in_chunks_of_many_sizes(echo: SimulatedChip) -> None:
    random = Random(1)
    sent = random.randbytes(100_000)
    received = bytearray()
    with connect(echo) as link:
        reader = Thread(target=lambda: received.extend(link.read(len(sent))))
        reader.start()
        rest = sent
        while rest:
            size = random.choice([1, 2, 15, 16, 17, 511, 4096, 10_000])
            link.write(rest[:size])
            rest = rest[size:]
        reader.join()
    assert received == sent


def test_host_may_write_everything_before_it_reads(echo: SimulatedChip) -> None:
    """Far more than the sockets' own buffers hold, in both directions."""
    sent = Random(2).randbytes(30_000_000)
    with connect(echo) as link:
        link.write(sent)
        assert link.read(len(sent)) == sent


def test_request_and_reply(echo: SimulatedChip) -> None:
    with connect(echo) as link:
        for byte in range(256):
            link.write(bytes([byte]))
            assert link.read(1) == bytes([byte])


def test_memories_hold_what_they_should(cache: Path) -> None:
    with SimulatedChip(to_verilog(Census()), cache_dir=cache) as chip, connect(chip) as link:
        seen: Counter[int] = Counter()

        @given(st.binary(max_size=20))
        def check(asked: bytes) -> None:
            expected = []
            for byte in asked:
                expected.append((SQUARES[byte] + seen[byte]) % 256)
                seen[byte] += 1
            link.write(asked)
            assert list(link.read(len(asked))) == expected

        check()


def test_chip_remembers_over_connections(census: SimulatedChip) -> None:
    for times_before in range(3):
        with connect(census) as link:
            link.write(b"\x07")
            assert link.read(1)[0] == 49 + times_before


def test_client_leaves_in_the_middle(census: SimulatedChip) -> None:
    """The chip finishes its work, and the next client receives none of the last one's answers."""
    with connect(census) as link:
        link.write(b"\x07" * 50)
    with connect(census) as link:
        link.write(b"\x07")
        assert link.read(1)[0] == 49 + 50


def test_one_client_at_a_time(echo: SimulatedChip) -> None:
    with connect(echo) as first, connect(echo) as second:
        second.write(b"second")
        first.write(b"first")
        assert first.read(5) == b"first"
        assert second.in_waiting == 0
        first.close()
        assert second.read(6) == b"second"


def test_time_stands_still_while_idle(cache: Path) -> None:
    with SimulatedChip(to_verilog(Clock()), cache_dir=cache) as chip, connect(chip) as link:
        times = []
        for _ in range(3):
            link.write(b"?")
            times += link.read(1)
            time.sleep(0.1)  # a free-running simulator makes a million cycles in this time
        assert times == [0, 0, 0]


def test_close_ends_the_simulator(cache: Path) -> None:
    chip = SimulatedChip(to_verilog(Echo()), cache_dir=cache)
    assert listening(chip.url)
    chip.close()
    assert not listening(chip.url)
    with pytest.raises(ProcessLookupError):
        os.kill(chip.pid, 0)
    chip.close()


@pytest.mark.parametrize("busy", [False, True])
def test_simulator_ends_with_its_parent(cache: Path, busy: bool) -> None:
    script = "import sys; from pathlib import Path; from locallearn.sim.simulated import SimulatedChip; "
    script += "chip = SimulatedChip(sys.argv[1], cache_dir=Path(sys.argv[2])); print(chip.url, flush=True); input()"
    command = [sys.executable, "-c", script, to_verilog(Census()), str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        with serial.serial_for_url(url, timeout=60) as link:
            if busy:
                link.write(bytes(10_000_000))  # work for hours
            parent.kill()
            parent.wait()
            with pytest.raises(serial.SerialException):
                while True:
                    link.read(1000)
    assert not listening(url)


def test_ctrl_c_does_not_reach_the_simulator(echo: SimulatedChip) -> None:
    assert os.getpgid(echo.pid) != os.getpgid(0)


def test_port_can_be_chosen_but_not_shared(cache: Path, echo: SimulatedChip) -> None:
    port = int(echo.url.rpartition(":")[2])
    with pytest.raises(ToolError, match=r"ended at its start \(exit status 1\): bind: Address already in use"):
        SimulatedChip(to_verilog(Echo()), port=port, cache_dir=cache)


def test_simulator_cannot_be_started(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("locallearn.sim.simulated.build", lambda *options: tmp_path / "absent")
    with pytest.raises(ToolError, match=r"simulated chip cannot be started: .*absent"):
        SimulatedChip("")


@pytest.mark.slow
def test_ziglang_will_do(cache: Path) -> None:
    """Slow the first time: zig builds its C++ library."""
    zig = find_compiler(lambda name: None)
    sent = Random(3).randbytes(10_000)
    with SimulatedChip(to_verilog(Echo()), cache_dir=cache, compiler=zig) as chip, connect(chip) as link:
        link.write(sent)
        assert link.read(len(sent)) == sent
