"""The frames that carry a stream of bytes each way between host and chip, over a line that loses and alters some.

A frame is a header, up to MAX_PAYLOAD bytes of the stream, and a CRC-32 of both, between FLAGs; a FLAG or an ESCAPE
inside is sent as an ESCAPE and the byte with FLIP's bit turned (RFC 1662, HDLC-like framing with a 32-bit FCS: unlike
COBS it needs no look ahead, so that the chip sends a byte as soon as it has it). Headers are packed from bit 0 up,
little endian.

Frames with a payload are numbered, modulo 2^NUMBER_BITS; one without has the `number` of the next. Each says how many
of the other stream have come (`got`), in order and whole; what comes out of order is dropped. The chip says besides up
to which the host may send (`room`): it keeps each in a slot of its buffer until it has taken it, so that nothing can
overrun it; and that a frame is missing before one that came (`lost`).

All mending is the host's, the chip has no timer: to begin a new `era` is to ask the chip to go on from the `got` that
comes with it, and the host goes back to the chip's if that misses something. The chip says the era that it is in, so
that what it said before that is not taken for news. It answers every frame that is whole.

A `session` begins with a frame that is `open` and has another number than the last: what was under way is given up and
both streams begin at 0. It lasts over any break of the line, until the chip is `open`ed again or loses its state, after
which its session is 0: frames of another session have no effect.
"""

import zlib

from locallearn.quant.packets import record_size

__all__ = [
    "CHIP_HEADER",
    "CRC_BYTES",
    "ESCAPE",
    "FLAG",
    "FLIP",
    "HOST_HEADER",
    "LINE_BYTES",
    "LINK_VERSION",
    "MAX_PAYLOAD",
    "NUMBER_BITS",
    "SLOT_BYTES",
    "FrameDecoder",
    "encode_frame",
    "link_window",
]

FLAG, ESCAPE, FLIP = 0x7E, 0x7D, 0x20

LINK_VERSION = 2
"""Of all that this module says; the four bits that say it stay where they are."""

NUMBER_BITS = 8
CRC_BYTES = 4

SLOT_BYTES = 256
"""Of the chip's buffers, for a frame's payload and its length."""

MAX_PAYLOAD = SLOT_BYTES - 1
"""Of one frame: with 11 to 13 bytes around it, 5 % are lost to frames, and 2.6 % of frames to 1 altered byte in 10,000.
"""

HOST_HEADER = {"version": 4, "open": 1, "era": 3, "session": 16, "number": NUMBER_BITS, "got": NUMBER_BITS}
CHIP_HEADER = {
    "version": 4,
    "spare": 1,
    "era": 3,
    "session": 16,
    "number": NUMBER_BITS,
    "got": NUMBER_BITS,
    "room": NUMBER_BITS,
    # A frame was missing.
    "lost": 1,
    # The chip's watchdog has found that nothing moves though work is left.
    "stuck": 1,
    # It has taken and answered all that came; behind `got`, which it may not run ahead of.
    "idle": 1,
    "padding": 5,
}
"""Fields and widths. The chip says each byte as it is when it is sent."""

LINE_BYTES = (MAX_PAYLOAD + record_size(HOST_HEADER) + CRC_BYTES + 2) / MAX_PAYLOAD
"""That the line carries for each of the host's stream where frames are full, escapes left out."""


def link_window(link_bytes: int) -> int:
    """Frames that a chip with a buffer of `link_bytes` each way lets the host send beyond what it has taken: what turns
    out to be no frame comes into a slot as well."""
    return link_bytes // SLOT_BYTES - 1


def encode_frame(header: bytes, payload: bytes = b"") -> bytes:
    """A frame as it goes over the line."""
    body = header + payload
    body += zlib.crc32(body).to_bytes(CRC_BYTES, "little")
    for special in (ESCAPE, FLAG):
        body = body.replace(bytes([special]), bytes([ESCAPE, special ^ FLIP]))
    return b"%c%b%c" % (FLAG, body, FLAG)


class FrameDecoder:
    """Finds the frames in what comes over the line.

    bad  pieces between two FLAGs that were none
    """

    def __init__(self) -> None:
        self.bad = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Headers and payloads, one after the other in each, of the frames that end in `data`."""
        *pieces, self._rest = (self._rest + data).split(bytes([FLAG]))
        # However long noise goes on, no more of it is kept than makes a frame too long to be one.
        self._rest = self._rest[: 4 * MAX_PAYLOAD]
        return [body for piece in pieces if piece and (body := self._decode(piece)) is not None]

    def clear(self) -> None:
        """Forget what has come of a frame: the line was broken."""
        self._rest = b""

    def _decode(self, piece: bytes) -> bytes | None:
        for special in (FLAG, ESCAPE):
            piece = piece.replace(bytes([ESCAPE, special ^ FLIP]), bytes([special]))
        body, crc = piece[:-CRC_BYTES], piece[-CRC_BYTES:]
        if len(crc) == CRC_BYTES and zlib.crc32(body) == int.from_bytes(crc, "little"):
            return body
        self.bad += 1
        return None
