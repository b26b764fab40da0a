"""The far end of a link, for faults that no chip has: answers by the script, then holds on or hangs up."""

import socket
import threading
from types import TracebackType
from typing import Self

__all__ = ["FakeChip"]


class FakeChip:
    """A TCP server on this machine for one client, as a context manager.

    `script` lists (request size, answer): after so many further bytes from the client the answer is sent. At its
    end the client is left without another word, or with `hang_up` without a connection.

    requests   what came, one entry for each answer
    """

    def __init__(self, *script: tuple[int, bytes], hang_up: bool = False) -> None:
        self._script = script
        self._hang_up = hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            for size, answer in self._script:
                request = client.recv(size, socket.MSG_WAITALL)
                if len(request) < size:
                    return
                self.requests.append(request)
                client.sendall(answer)
            if not self._hang_up:
                while client.recv(1 << 16):
                    pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(timeout=10)
        self._listener.close()
        assert not self._thread.is_alive(), "the client never came, or never left"
