"""A serial port: its rate, and that every byte passes as it is. What goes wrong is in test_device.py."""

import os
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from locallearn.host import connect
from locallearn.host.cli import main
from locallearn.host.link import Link
from locallearn.quant.errors import DeviceError


@dataclass
class Port:
    """A serial port of the system, and the far end of its wires."""

    path: str
    port: int
    far_end: int

    def rates(self) -> list[int]:
        """In and out."""
        return termios.tcgetattr(self.port)[4:6]


@pytest.fixture
def port() -> Iterator[Port]:
    far_end, port = os.openpty()
    yield Port(os.ttyname(port), port, far_end)
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
    data = bytes(range(256)) * 4
    with Link(port.path, 1.0) as link:
        link.write(data)
        received = b""
        while len(received) < len(data):
            received += os.read(port.far_end, len(data))
        assert received == data
        os.write(port.far_end, data)
        assert link.read(len(data)) == data


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
