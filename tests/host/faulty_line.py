"""A line between host and chip that loses, alters, delays and breaks."""

import select
import socket
import threading
import time
from random import Random
from types import TracebackType
from typing import Self

from tests.noise import Noise

__all__ = ["FaultyLine"]


class FaultyLine:
    """A TCP server on this machine that passes on what comes to the chip's and back, as a context manager.

    port                  of the chip
    noise                 what happens on either way
    break_after           bytes after which the connection breaks, on average; None: never
    stall_after, stall_s  bytes after which all stands still, on average, and for how long at most

    url                   where a host finds it
    breaks, stalls        how many there were
    """

    def __init__(
        self,
        port: int,
        noise: Noise,
        random: Random,
        *,
        break_after: int | None = None,
        stall_after: int | None = None,
        stall_s: float = 0.0,
    ) -> None:
        self._port = port
        self._noise, self._random = noise, random
        self._break_after, self._stall_after, self._stall_s = break_after, stall_after, stall_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = False
        self._thread = threading.Thread(target=self._serve)
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.breaks = self.stalls = 0

    def _serve(self) -> None:
        while not self._over:
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            host, _ = self._listener.accept()
            with host, socket.create_connection(("127.0.0.1", self._port)) as chip:
                self._pass_on(host, chip)

    def _pass_on(self, host: socket.socket, chip: socket.socket) -> None:
        """Until either end is gone, or the connection breaks."""
        random = self._random
        far = {host: chip, chip: host}
        while not self._over:
            for end in select.select(list(far), [], [], 0.05)[0]:
                try:
                    data = end.recv(1 << 12)
                    if not data:
                        return
                    far[end].sendall(self._noise(data, random))
                except OSError:
                    return
                if self._stall_after is not None and random.random() < len(data) / self._stall_after:
                    self.stalls += 1
                    time.sleep(random.random() * self._stall_s)
                if self._break_after is not None and random.random() < len(data) / self._break_after:
                    self.breaks += 1
                    return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join(timeout=10)
        self._listener.close()
        assert not self._thread.is_alive()
