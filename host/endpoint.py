"""The host's end of the link, without a line: what comes and what the time is is told to it; see `quant/frames.py`."""

from collections import deque
from dataclasses import dataclass, field

from locallearn.quant.errors import DeviceError, StateLost
from locallearn.quant.frames import (
    CHIP_HEADER,
    HOST_HEADER,
    LINK_VERSION,
    MAX_PAYLOAD,
    NUMBER_BITS,
    FrameDecoder,
    encode_frame,
)
from locallearn.quant.packets import pack, record_size, unpack

__all__ = ["Endpoint", "LinkCounters"]

_MODULUS = 1 << NUMBER_BITS
_SESSIONS = 1 << HOST_HEADER["session"]
_CHIP_HEADER_BYTES = record_size(CHIP_HEADER)

_FOREIGN = 3
"""Frames of another session, one after the other, that tell that this one is over."""

_TELL = 2
"""Frames of the chip's, of which it is told at the latest: it keeps them until then."""

_SOON_S, _LATER_S = 0.1, 1.0
"""Without news for so long, at first and at last, the chip is asked; on a slow line for twice as long as news take."""


@dataclass
class LinkCounters:
    """What the line did since the link was opened.

    sent, received  bytes of the streams, each counted once
    frames     sent
    resent     bytes of the stream sent once more
    bad        frames from the chip that were none
    missed     frames from the chip that were whole, but the one before was missing
    silences   how often the chip had to be asked
    breaks     how often the connection was lost and came back
    """

    sent: int = 0
    received: int = 0
    frames: int = 0
    resent: int = 0
    bad: int = 0
    missed: int = 0
    silences: int = 0
    breaks: int = 0


@dataclass
class Endpoint:
    """Both streams of a session, the host's end.

    session  its number, not 0; another one is taken where the last session had the same
    now      seconds, from any beginning

    open          the chip is in it
    write, received  the streams
    deadline      when it has something `to_send` at the latest
    done          the chip, asked once more, says that it has answered all that was written
    asked         since when nothing has come though the chip, which answers every frame, has been sent one; or None
    """

    session: int
    now: float
    counters: LinkCounters = field(default_factory=LinkCounters)
    open: bool = False
    asked: float | None = None
    done: bool = False
    deadline: float = field(init=False)
    received: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._decoder = FrameDecoder()
        # Payloads of frames from `acked` on, and what is in none yet. Frames are counted from the beginning.
        self._frames: deque[bytes] = deque()
        self._pending = bytearray()
        self._acked = self._sent = self._most = self._room = 0
        self._got = self._told = 0
        self._era, self._confirmed = 0, True
        self._in_flight = float(_MODULUS)
        self._owes = True
        self._foreign = 0
        self._interval = self._soon = _SOON_S
        # A frame that is on its way for the first time, and since when.
        self._probe: tuple[int, float] | None = None
        self._wait()

    @property
    def unsent(self) -> int:
        """Bytes that were written and are in no frame yet."""
        return len(self._pending)

    @property
    def delivered(self) -> int:
        """Bytes that the chip has."""
        return self.counters.sent - sum(map(len, self._frames))

    @property
    def settled(self) -> bool:
        """Whether the chip has all that was written."""
        return not self._pending and not self._frames

    @property
    def room(self) -> int:
        """Frames that the chip will take beyond those that it has."""
        return self._room - self._acked

    def write(self, data: bytes) -> None:
        self._pending += data
        self.done = False

    def reconnected(self) -> None:
        """The line was broken: what was under way is gone."""
        self.counters.breaks += 1
        self._decoder.clear()
        self._begin_era(go_back=True)

    def tell(self, data: bytes, now: float) -> None:
        """Bytes that came.

        Raises DeviceError where the chip is another version's, hangs, or was taken over by another host; StateLost
        where it was reset.
        """
        self.now = now
        bad = self.counters.bad
        for body in self._decoder.feed(data):
            if len(body) < _CHIP_HEADER_BYTES:
                self._decoder.bad += 1
                continue
            self._take(unpack(CHIP_HEADER, body[:_CHIP_HEADER_BYTES]), body[_CHIP_HEADER_BYTES:])
        self.counters.bad = self._decoder.bad
        if self.counters.bad != bad:
            # It may have been the last for now: the chip's next says whether something is missing.
            self._owes = True

    def to_send(self, now: float) -> bytes:
        """Frames, as many as may be on their way."""
        self.now = now
        if now >= self.deadline:
            self._ask()
        frames = bytearray()
        while self.open and self._sent < min(self._room, self._acked + int(self._in_flight)):
            if self._sent == self._most and not self._fill():
                break
            frames += self._frame(self._frames[self._sent - self._acked])
        if self._owes:
            frames += self._frame(b"")
        return bytes(frames)

    # -- to the chip -----------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Whether there was something for a further frame."""
        if payload := bytes(self._pending[:MAX_PAYLOAD]):
            del self._pending[:MAX_PAYLOAD]
            self._frames.append(payload)
        return bool(payload)

    def _frame(self, payload: bytes) -> bytes:
        header = {"version": LINK_VERSION, "open": not self.open, "era": self._era}
        header |= {"session": self.session, "number": self._sent % _MODULUS, "got": self._got % _MODULUS}
        if payload:
            if self._sent < self._most:
                self.counters.resent += len(payload)
            else:
                self.counters.sent += len(payload)
            self._sent += 1
            if self._sent > self._most and self._probe is None:
                self._probe = self._sent, self.now
            self._most = max(self._most, self._sent)
        self.counters.frames += 1
        self._told = self._got
        self._owes = False
        if self.asked is None:
            self.asked = self.now
        self._wait()
        return encode_frame(pack(HOST_HEADER, **header), payload)

    def _wait(self) -> None:
        self.deadline = self.now + self._interval

    def _ask(self) -> None:
        """There was no news: something may be lost on its way there, or the answer to it."""
        if self.open:
            self.counters.silences += 1
            if self._sent > self._acked or not self._confirmed:
                self._begin_era(go_back=True)
        self._interval = min(2 * self._interval, max(_LATER_S, self._soon))
        self._owes = True

    def _begin_era(self, go_back: bool) -> None:
        """The chip goes on from what has come; with `go_back` the host does as well."""
        self._era = (self._era + 1) % (1 << HOST_HEADER["era"])
        self._confirmed = False
        self._owes = True
        if go_back:
            # As TCP does it: half as much under way after each loss, two frames at least, and slowly more again.
            self._in_flight = max(2.0, (self._sent - self._acked) / 2)
            self._sent = self._acked
            self._probe = None

    # -- from the chip ---------------------------------------------------------------------------------

    def _take(self, header: dict[str, int], payload: bytes) -> None:
        if header["version"] != LINK_VERSION:
            raise DeviceError(
                f"the chip speaks version {header['version']} of the link, this host version {LINK_VERSION}: build the "
                "chip again, or install the locallearn that it was built with"
            )
        self.asked = None
        if header["stuck"]:
            raise DeviceError("the chip's watchdog: work is left and nothing moves; load its bitstream again")
        if header["session"] != self.session:
            self._foreign += self.open
            # One may be an earlier session's that comes late, or twice: the chip is asked again.
            self._owes |= self.open
            if self._foreign == _FOREIGN:
                if header["session"]:
                    raise DeviceError("another host took the chip over")
                raise StateLost("the chip was reset: what it had learned is gone")
            return
        self._foreign = 0
        if not self.open and (header["number"] or header["got"]):
            # The session that it was in before has the same number.
            self.session = self.session % (_SESSIONS - 1) + 1
            self._owes = True
            return
        acked = (header["got"] - self._acked) % _MODULUS
        if acked > self._most - self._acked:
            return
        self.open = True
        for _ in range(acked):
            self._frames.popleft()
        self._acked += acked
        if self._probe is not None and self._acked >= self._probe[0]:
            # Quick to grow, slow to shrink.
            self._soon = max(_SOON_S, 2 * (self.now - self._probe[1]), 0.9 * self._soon)
            self._probe = None
        if acked or payload:
            self._interval = self._soon
            self._wait()
        self._sent = max(self._sent, self._acked)
        self._in_flight = min(self._in_flight + acked / self._in_flight, _MODULUS)
        self._room = self._acked + (header["room"] - header["got"]) % _MODULUS
        current = header["era"] == self._era
        self._confirmed |= current
        # When it is asked after some silence, not before: what it is about to say may be on its way.
        self.done = bool(header["idle"]) and self.settled and current and self._interval > 2 * self._soon
        behind = (self._got - header["number"]) % _MODULUS
        missing = behind >= _MODULUS // 2
        self.counters.missed += missing and current
        if payload and not behind:
            self.received += payload
            self.counters.received += len(payload)
            self._got += 1
            self._owes |= self._got - self._told >= _TELL
        # All that was said by then has come.
        self.done &= (self._got - header["number"]) % _MODULUS == bool(payload)
        if current and (missing or header["lost"]):
            self._begin_era(go_back=bool(header["lost"]))
