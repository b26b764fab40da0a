"""The line: a serial port at its rate, and what the link makes of silence and of a line that breaks."""

import os
import re
import select
import socket
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from locallearn.host import connect
from locallearn.host.cli import main
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError, StateLost
from locallearn.quant.frames import LINK_VERSION
from tests.chip_end import ChipEnd
from tests.host.fake_chip import FakeChip

PATIENCE_S = 0.5


def echo(byte: int) -> bytes:
    return bytes([byte])


@dataclass
class Port:
    """A serial port of the system, and the chip behind it."""

    path: str
    port: int
    chip: ChipEnd

    def rates(self) -> list[int]:
        """In and out."""
        return termios.tcgetattr(self.port)[4:6]


@pytest.fixture
def port() -> Iterator[Port]:
    far_end, port = os.openpty()
    chip, over = ChipEnd(echo), threading.Event()

    def serve() -> None:
        while not over.is_set():
            if select.select([far_end], [], [], 0.05)[0]:
                os.write(far_end, chip.take(os.read(far_end, 1 << 12)))

    thread = threading.Thread(target=serve)
    thread.start()
    yield Port(os.ttyname(port), port, chip)
    over.set()
    thread.join()
    os.close(far_end)
    os.close(port)


def test_rate(port: Port) -> None:
    with Link(port.path):
        assert port.rates() == [termios.B3000000] * 2
    with Link(port.path, baud=2_000_000):
        assert port.rates() == [termios.B2000000] * 2


def test_rate_without_a_name(port: Port) -> None:
    """Rates that the system has no constant for."""
    with Link(port.path, baud=6_000_000):
        assert not set(port.rates()) & {termios.B2000000, termios.B3000000, termios.B4000000, termios.B9600}


def test_all_bytes_both_ways(port: Port) -> None:
    data = bytes(range(256)) * 40
    with Link(port.path) as link:
        link.write(data)
        assert link.read(len(data)) == data
        assert link.counters.sent == link.counters.received == len(data)


def test_each_link_is_a_session(port: Port) -> None:
    with Link(port.path) as link:
        link.write(b"abc")
        first = port.chip.session
    with Link(port.path) as link:
        link.write(b"d")
        assert link.read(1) == b"d", "nothing is left of the session before"
    assert port.chip.session != first
    assert port.chip.opened == 2


# -- what goes wrong -----------------------------------------------------------------------------------


def test_another_version_of_the_link(port: Port) -> None:
    port.chip.version = LINK_VERSION + 1
    message = (
        f"{port.path}: the chip speaks version {LINK_VERSION + 1} of the link, this host version {LINK_VERSION}: build "
        "the chip again, or install the locallearn that it was built with"
    )
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        Link(port.path)


def test_a_chip_that_hangs(port: Port) -> None:
    message = "the chip's watchdog: work is left and nothing moves; load its bitstream again"
    with Link(port.path) as link:
        port.chip.stuck = 1
        with pytest.raises(DeviceError, match=f"^{re.escape(f'{port.path}: {message}')}$"):
            link.write(b"a")
            link.read(2)


def test_a_chip_that_another_host_took_over(port: Port) -> None:
    with Link(port.path) as link:
        port.chip.session = port.chip.session % 1000 + 1
        with pytest.raises(DeviceError, match=f"^{port.path}: another host took the chip over$"):
            link.write(b"b")
            link.read(1)


def test_a_chip_that_was_reset(port: Port) -> None:
    with Link(port.path) as link:
        link.write(b"a")
        assert link.read(1) == b"a"
        port.chip.session = 0
        with pytest.raises(StateLost, match=f"^{port.path}: the chip was reset: what it had learned is gone$"):
            link.write(b"b")
            link.read(1)
        link.begin()
        link.write(b"c")
        assert link.read(1) == b"c"


def test_nothing_is_there() -> None:
    with FakeChip(end="silent") as fake:
        message = f"{fake.url}: nothing on this line answers as a chip of locallearn does, for 0.5 s"
        with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
            Link(fake.url, PATIENCE_S)


def test_silence() -> None:
    with FakeChip((1, b"a"), end="silent") as fake, Link(fake.url, PATIENCE_S) as link:
        link.write(b"?")
        assert link.read(1) == b"a"
        with pytest.raises(DeviceError, match=f"^{re.escape(fake.url)}: the chip said nothing for 0.5 s$"):
            link.read(1)


def test_silence_counts_from_the_question_on() -> None:
    """A host that is busy for long is not answered meanwhile, and asks nothing."""
    with FakeChip((1, b"a"), (1, b"b")) as fake, Link(fake.url, PATIENCE_S) as link:
        link.write(b"?")
        assert link.read(1) == b"a"
        time.sleep(2 * PATIENCE_S)
        link.write(b"?")
        assert link.read(1) == b"b"


def test_hung_up_for_good() -> None:
    with FakeChip((1, b"a"), end="hang up") as fake, Link(fake.url, PATIENCE_S) as link:
        link.write(b"?")
        assert link.read(1) == b"a"
        gone = r"connection lost \(read failed: .*\), and not back within 0.5 s \(.*refused.*\)"
        with pytest.raises(DeviceError, match=f"^{re.escape(fake.url)}: {gone}$"):
            link.read(1)


def test_hung_up_and_back() -> None:
    """The far end goes away at every other exchange; nothing is lost, and nothing comes twice."""
    chip = ChipEnd(echo)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener is gone, or the client
            while True:
                client, _ = listener.accept()
                with client:
                    for _ in range(3):
                        client.sendall(chip.take(client.recv(1 << 10)))

    thread = threading.Thread(target=serve)
    thread.start()
    data = os.urandom(5000)
    with Link(f"socket://127.0.0.1:{listener.getsockname()[1]}") as link:
        link.write(data)
        assert link.read(len(data)) == data
        assert link.counters.breaks >= 1
    assert chip.opened == 1
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)
    listener.close()
    assert not thread.is_alive()


# -- from the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["verify", "digits"], ["train", "digits"]])
@pytest.mark.parametrize(("options", "baud"), [([], 3_000_000), (["--baud", "6000000"], 6_000_000)])
def test_rate_from_the_command_line(
    command: list[str],
    options: list[str],
    baud: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def refuse(url: str, *, baud: int) -> None:
        raise DeviceError(f"{url} at {baud}")

    monkeypatch.setattr(connect, "Link", refuse)
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--device", "/dev/ttyUSB7", *options]) == DeviceError.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == f"locallearn: /dev/ttyUSB7 at {baud}"


def test_rate_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--baud", "0"])
    assert "argument --baud: 0: must be at least 1" in capsys.readouterr().err
