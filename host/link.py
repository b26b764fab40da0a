"""The link to a chip: simulated (`socket://host:port`) or on a board (`/dev/ttyUSB0`), by the same code.

Two streams of bytes that lose nothing, whatever the line does; see `quant/frames.py`. pyserial is the line.
"""

import random
import select
import time
from contextlib import suppress
from types import TracebackType

import serial

from locallearn.host.endpoint import Endpoint, LinkCounters
from locallearn.quant.errors import DeviceError, StateLost
from locallearn.quant.frames import MAX_PAYLOAD

__all__ = ["DEFAULT_BAUD", "Link"]

DEFAULT_BAUD = 3_000_000
"""What the USB bridges of most boards can do."""

PATIENCE_S = 30.0
"""Longest silence of the chip, and longest absence of the line, in seconds."""

_RETRY_S = 0.2
"""Between two attempts to open the line again."""

_PIECE = 1 << 16
"""Bytes that are taken from the line at most at a time."""

_BACKLOG = 16 * MAX_PAYLOAD
"""Bytes written that may wait for a frame: enough that the line is never without."""


class Link:
    """A serial port at `baud`, or a socket, which has no such thing. A new session: what an earlier one left unfinished
    is given up by the chip.

    A line that breaks is opened again, and both streams go on where they were.

    Raises DeviceError when the line cannot be opened, is gone for `patience_s`, or the chip says nothing for so long
    (it answers even while it is at work), hangs, or was taken over by another host; StateLost when it was reset:
    `begin` is then another session. Not thread-safe.

    lost  that has been raised
    """

    lost: bool

    def __init__(self, url: str, patience_s: float = PATIENCE_S, baud: int = DEFAULT_BAUD) -> None:
        self.url = url
        self._baud = baud
        self._patience_s = patience_s
        try:
            self._port = self._open()
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(
                f"{url}: cannot be opened ({error}); a device is sim, model, a port such as /dev/ttyUSB0 "
                "or socket://host:port"
            ) from None
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """A new session: both streams begin anew."""
        self.lost = False
        # By chance: one that counted on from the last would be another host's, too, after the next reset.
        self._end = Endpoint(random.SystemRandom().randrange(1, 1 << 16), time.monotonic())
        while not self._end.open:
            self._exchange()

    @property
    def counters(self) -> LinkCounters:
        """Of this session."""
        return self._end.counters

    def write(self, data: bytes) -> None:
        """Send all of `data`. Blocks while more than a few frames wait for the chip to take them."""
        self._end.write(data)
        self._exchange(wait=False)
        while self._end.unsent > _BACKLOG:
            self._exchange()

    def read(self, size: int) -> bytes:
        """Receive exactly `size` bytes."""
        while len(self._end.received) < size:
            if self._end.done:
                came = f"{len(self._end.received)} of {size} bytes had come"
                raise DeviceError(f"{self.url}: no answer, though the chip is at rest; {came}")
            self._exchange()
        data = bytes(self._end.received[:size])
        del self._end.received[:size]
        return data

    def close(self) -> None:
        self._port.close()

    def _open(self) -> serial.Serial:
        # What cannot be sent within that time is lost with the line.
        port = serial.serial_for_url(self.url, baudrate=self._baud, timeout=0, write_timeout=self._patience_s)
        # FTDI's bridges keep what comes for 16 ms otherwise: more than the chip has room for. Only Linux knows how, and
        # only serial ports do: not sockets, nor the ports of pseudo-terminals.
        with suppress(AttributeError, NotImplementedError, OSError, ValueError):
            port.set_low_latency_mode(True)
        return port

    def _exchange(self, wait: bool = True) -> None:
        """Send what there is to send, take what has come; `wait` until something has, or it is time to send."""
        end = self._end
        try:
            now = time.monotonic()
            if frames := end.to_send(now):
                self._port.write(frames)
            seconds = max(0.0, end.deadline - now) if wait else 0.0
            came = bool(select.select([self._port.fileno()], [], [], seconds)[0])
            data = self._port.read(_PIECE) if came else b""
        except (serial.SerialException, OSError, ValueError) as error:
            self._reopen(error)
            return
        now = time.monotonic()
        try:
            end.tell(data, now)
        except DeviceError as error:
            self.lost = isinstance(error, StateLost)
            raise type(error)(f"{self.url}: {error}") from None
        if end.asked is not None and now - end.asked > self._patience_s:
            what = "the chip said nothing" if end.open else "nothing on this line answers as a chip of locallearn does,"
            raise DeviceError(f"{self.url}: {what} for {self._patience_s:g} s")

    def _reopen(self, reason: Exception) -> None:
        """The line is gone: until it is back."""
        self._port.close()
        last = time.monotonic() + self._patience_s
        while True:
            try:
                self._port = self._open()
                break
            except (serial.SerialException, OSError) as error:
                if time.monotonic() > last:
                    raise DeviceError(
                        f"{self.url}: connection lost ({reason}), and not back within {self._patience_s:g} s ({error})"
                    ) from None
            time.sleep(_RETRY_S)
        self._end.reconnected()

    def __enter__(self) -> "Link":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
