"""The byte link to a chip: simulated (`socket://host:port`) or on a board (`/dev/ttyUSB0`), by the same code."""

from types import TracebackType

import serial

from locallearn.quant.errors import DeviceError

__all__ = ["DEFAULT_BAUD", "Link"]

DEFAULT_BAUD = 3_000_000
"""What the USB bridges of most boards can do."""

PATIENCE_S = 30.0
"""Longest silence in the middle of an answer, in seconds."""


class Link:
    """A serial port at `baud`, or a socket, which has no such thing.

    Raises DeviceError when it cannot be opened, breaks, or is silent for `patience_s`.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S, baud: int = DEFAULT_BAUD) -> None:
        self.url = url
        self._patience_s = patience_s
        try:
            self._port = serial.serial_for_url(url, baudrate=baud, timeout=patience_s)
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(
                f"{url}: cannot be opened ({error}); a device is sim, model, a port such as /dev/ttyUSB0 "
                "or socket://host:port"
            ) from None

    def write(self, data: bytes) -> None:
        """Send all of `data`. Blocks while the device is not ready to take it."""
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise DeviceError(f"{self.url}: connection lost while sending: {error}") from None

    def read(self, size: int) -> bytes:
        """Receive exactly `size` bytes."""
        received = bytearray()
        while len(received) < size:
            try:
                part = self._port.read(size - len(received))
            except (serial.SerialException, OSError) as error:
                raise DeviceError(f"{self.url}: connection lost while receiving: {error}") from None
            if not part:
                raise DeviceError(
                    f"{self.url}: no answer for {self._patience_s:g} s; {len(received)} of {size} bytes had come"
                )
            received += part
        return bytes(received)

    def close(self) -> None:
        self._port.close()

    def __enter__(self) -> "Link":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
