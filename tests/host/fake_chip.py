"""The far end of a link, for faults that no chip has: answers by a script, then holds on, falls silent or hangs up."""

import socket
import threading
from types import TracebackType
from typing import Literal, Self

from tests.chip_end import ChipEnd

__all__ = ["FakeChip"]


class FakeChip:
    """A TCP server on this machine for one client, as a context manager.

    `script` lists (request size, answer): after so many further bytes of the client's stream the answer is sent. When
    it is over the client hears no other word, and by `end`

    hold       its frames are answered
    silent     they are not, without a script none
    hang up    the connection is closed

    requests   what came, one entry for each answer
    link       the chip's end
    """

    def __init__(self, *script: tuple[int, bytes], end: Literal["hold", "silent", "hang up"] = "hold") -> None:
        self._script = list(script)
        self._end = end
        self._request = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.link = ChipEnd(self._hear)

    def _hear(self, byte: int) -> bytes:
        self._request.append(byte)
        if not self._script or len(self._request) < self._script[0][0]:
            return b""
        self.requests.append(bytes(self._request))
        self._request.clear()
        return self._script.pop(0)[1]

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        # Nobody gets through a second time.
        self._listener.close()
        with client:
            while not self._over or self._end != "hang up":
                try:
                    data = client.recv(1 << 16)
                except ConnectionResetError:
                    break
                if not data:
                    break
                if not self._over or self._end == "hold":
                    client.sendall(self.link.take(data))

    @property
    def _over(self) -> bool:
        return not self._script and (self.link.opened > 0 or self._end == "silent")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "the client never came, or never left"
