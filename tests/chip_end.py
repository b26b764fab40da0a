"""The chip's end of the link, plainly: what `rtl/link.py` has to do, and what stands in its place before the host."""

from collections.abc import Callable
from zlib import crc32

from locallearn.quant.frames import (
    CHIP_HEADER,
    CRC_BYTES,
    ESCAPE,
    FLAG,
    FLIP,
    HOST_HEADER,
    LINK_VERSION,
    MAX_PAYLOAD,
    encode_frame,
    link_window,
)
from locallearn.quant.packets import pack, record_size, unpack

__all__ = ["ChipEnd"]

_MODULUS = 1 << 8


class ChipEnd:
    """A chip that answers `behind(byte)` to each byte of the host's stream, and takes them all at once.

    version, stuck, session  as the chip says them
    opened                   sessions that were begun
    """

    def __init__(self, behind: Callable[[int], bytes], link_bytes: int = 4096, version: int = LINK_VERSION) -> None:
        self.behind = behind
        self.version = version
        self.stuck = 0
        self.session = self.opened = 0
        self._window = link_window(link_bytes)
        self._frame = bytearray()
        self._escaped = False
        self._clear()

    def _clear(self) -> None:
        self.got = self.era = self.lost = 0
        # Payloads from `kept` on, how many of them are sent, and what is in none yet.
        self.kept = self.sent = 0
        self.frames: list[bytes] = []
        self.said = bytearray()

    def take(self, data: bytes) -> bytes:
        """What comes over the line, and what goes back."""
        answer = b""
        for byte in data:
            if byte == FLAG:
                if self._frame and self._end(bytes(self._frame)):
                    answer += self._answer()
                self._frame.clear()
                self._escaped = False
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._frame.append(byte ^ FLIP if self._escaped else byte)
                self._escaped = False
        return answer

    def _end(self, frame: bytes) -> bool:
        """Whether there is something to answer."""
        size = record_size(HOST_HEADER)
        body = frame[:-CRC_BYTES]
        if len(body) < size or crc32(body).to_bytes(CRC_BYTES, "little") != frame[-CRC_BYTES:]:
            return False
        header, payload = unpack(HOST_HEADER, body[:size]), body[size:]
        if header["version"] != LINK_VERSION:
            return True
        if header["session"] != self.session:
            if header["open"]:
                self._clear()
                self.session = header["session"]
                self.opened += 1
            return True
        progress = (header["got"] - self.kept) % _MODULUS
        if progress > len(self.frames):
            return True
        del self.frames[:progress]
        self.sent = max(0, self.sent - progress)
        self.kept = header["got"]
        if header["era"] != self.era:
            self.era, self.sent, self.lost = header["era"], 0, 0
        distance = (header["number"] - self.got) % _MODULUS
        if payload and distance == 0:
            self.got = (self.got + 1) % _MODULUS
            for byte in payload:
                self.said += self.behind(byte)
        elif payload and distance < _MODULUS // 2:
            self.lost = 1
        return True

    def _answer(self) -> bytes:
        """Frames of what is there and fits the chip's buffer, or one without any."""
        while self.said and len(self.frames) < self._window:
            self.frames.append(bytes(self.said[:MAX_PAYLOAD]))
            del self.said[:MAX_PAYLOAD]
        answer = b""
        while not answer or self.sent < len(self.frames):
            header = {"version": self.version, "lost": self.lost, "stuck": self.stuck, "era": self.era}
            header |= {"idle": self.sent == len(self.frames) and not self.said, "spare": 0, "padding": 0}
            header |= {"session": self.session, "got": self.got, "number": (self.kept + self.sent) % _MODULUS}
            header |= {"room": (self.got + self._window) % _MODULUS}
            payload = b"".join(self.frames[self.sent : self.sent + 1])
            self.sent += len(payload) > 0
            answer += encode_frame(pack(CHIP_HEADER, **header), payload)
        return answer
