"""A line to a simulated chip that loses and alters some of what goes over it, and the host at its end."""

import select
import socket
import time
from dataclasses import dataclass, field
from random import Random

from locallearn.host.endpoint import Endpoint
from tests.noise import Noise

__all__ = ["NoisyHost", "connect"]

_HASTE = 20
"""The host's clock goes so many times faster: what it waits for is a simulation, which is fast."""

_PATIENCE_S = 30


def connect(url: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


@dataclass
class NoisyHost:
    """An `Endpoint` at a line with noise both ways, and a `host.link.Link` for a device.

    line_bytes  that went to the chip
    """

    line: socket.socket
    rng: Random
    noise: Noise = field(default_factory=Noise)
    line_bytes: int = 0
    url: str = "noisy"
    lost: bool = False

    def __post_init__(self) -> None:
        self.begin()

    def now(self) -> float:
        return time.monotonic() * _HASTE

    def begin(self) -> None:
        """A new session; it is open when something is first heard in it."""
        self.end = Endpoint(self.rng.randrange(1, 1 << 16), self.now())

    def exchange(self, wait: bool = True) -> None:
        end = self.end
        if frames := end.to_send(self.now()):
            self.send(self.noise(frames, self.rng))
        seconds = max(0.0, end.deadline - self.now()) / _HASTE if wait else 0
        if select.select([self.line], [], [], seconds)[0]:
            said = self.line.recv(1 << 16)
            assert said, "the simulated chip has ended"
            end.tell(self.noise(said, self.rng), self.now())
        else:
            end.tell(b"", self.now())

    def send(self, data: bytes) -> None:
        """Over the line as they are."""
        self.line_bytes += len(data)
        self.line.sendall(data)

    def open(self) -> None:
        since = time.monotonic()
        while not self.end.open:
            self.exchange()
            assert time.monotonic() - since < _PATIENCE_S, "no session"

    def write(self, data: bytes) -> None:
        self.end.write(data)
        self.exchange(wait=False)

    def read(self, size: int) -> bytes:
        return self.hear(size)

    def settle(self, window: int) -> None:
        """Until the chip has all that was written, and has taken it: it lets the host send `window` frames more."""
        since = time.monotonic()
        while not self.end.settled or self.end.room != window:
            self.end.reconnected()
            self.exchange()
            assert time.monotonic() - since < _PATIENCE_S, "the chip does not take what it was sent"

    def hear(self, size: int) -> bytes:
        """The next `size` bytes of the chip's stream."""
        since, before = time.monotonic(), -1
        while len(self.end.received) < size:
            progress = self.end.counters.received + self.end.counters.sent
            if progress != before:
                since, before = time.monotonic(), progress
            assert time.monotonic() - since < _PATIENCE_S, f"{len(self.end.received)} of {size} bytes"
            self.exchange()
        data = bytes(self.end.received[:size])
        del self.end.received[:size]
        return data
