"""The host's end of the link against the plain chip's end, over lines of every kind, in a time of its own."""

import os
import re
import zlib
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locallearn.host.endpoint import Endpoint
from locallearn.quant.errors import DeviceError, StateLost
from locallearn.quant.frames import (
    CHIP_HEADER,
    HOST_HEADER,
    LINK_VERSION,
    MAX_PAYLOAD,
    FrameDecoder,
    encode_frame,
    link_window,
)
from locallearn.quant.packets import pack, record_size, unpack
from tests.chip_end import ChipEnd
from tests.noise import Noise

TURN_S = 0.01

HEADER = {name: 0 for name in CHIP_HEADER if name not in ("session", "number", "room")} | {"version": LINK_VERSION}

Line = Callable[[bytes], bytes]
"""What comes of what goes over it."""


class Pair:
    """Both ends and what is under way between them; every turn takes TURN_S."""

    def __init__(self, chip: ChipEnd, to_chip: Line = bytes, to_host: Line = bytes) -> None:
        self.now = 0.0
        self.chip = chip
        self.host = Endpoint(4711, self.now)
        self.to_chip, self.to_host = to_chip, to_host
        self.turns = 0

    def turn(self) -> None:
        frames = self.to_chip(self.host.to_send(self.now))
        self.now += TURN_S
        self.turns += 1
        self.host.tell(self.to_host(self.chip.take(frames)), self.now)

    def until_received(self, size: int, turns: int) -> bytes:
        while len(self.host.received) < size:
            assert self.turns < turns, f"{len(self.host.received)} of {size} bytes after {turns} turns"
            self.turn()
        return bytes(self.host.received)


def twice(byte: int) -> bytes:
    """A chip that says more than it hears."""
    return bytes([byte, byte ^ 0xFF])


def said_twice(data: bytes) -> bytes:
    return b"".join(twice(byte) for byte in data)


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 20_000),
    link_bytes=st.sampled_from([1024, 4096, 32768]),
    rates=st.tuples(*[st.sampled_from([0, 1e-4, 1e-3])] * 3),
    lose=st.sampled_from([0, 1e-4, 1e-3]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost(seed: int, size: int, link_bytes: int, rates: tuple[float, float, float], lose: float) -> None:
    random = Random(seed)
    line = partial(Noise(*rates, lose, lose / 300, lose / 3000), rng=random)
    pair = Pair(ChipEnd(twice, link_bytes), line, line)
    data = random.randbytes(size)
    pair.host.write(data)
    assert pair.until_received(2 * size, turns=200_000) == said_twice(data)
    assert pair.chip.opened <= 1
    assert pair.host.counters.sent == size


def test_a_quiet_line_costs_nothing() -> None:
    """Frames are full, none is sent twice, and none asks."""
    pair, size = Pair(ChipEnd(lambda byte: b"", 4096)), 100 * MAX_PAYLOAD
    pair.host.write(bytes(size))
    while not pair.host.settled:
        pair.turn()
    counters = pair.host.counters
    assert (counters.resent, counters.bad, counters.missed, counters.silences) == (0, 0, 0, 0)
    assert counters.frames <= 100 + 1 + 100 // link_window(4096) + 1


def test_no_more_is_under_way_than_there_is_room_for() -> None:
    """Though the chip takes nothing, and everything is sent again and again."""
    chip = ChipEnd(twice)
    pair = Pair(chip)
    pair.turn()
    full = encode_frame(pack(CHIP_HEADER, **HEADER, session=4711, number=0, room=3))
    pair.host.tell(full, 0.0)
    pair.host.write(bytes(5000))
    decoder, most, size = FrameDecoder(), 0, record_size(HOST_HEADER)
    for turn in range(100):
        for body in decoder.feed(pair.host.to_send(turn / 10)):
            fields = unpack(HOST_HEADER, body[:size])
            most = max(most, fields["number"] + bool(body[size:]))
    assert most == 3
    assert pair.host.counters.silences > 0


def test_streams_longer_than_their_numbers() -> None:
    pair, data = Pair(ChipEnd(twice, 32768)), os.urandom(3 * 256 * MAX_PAYLOAD)
    pair.host.write(data)
    assert pair.until_received(2 * len(data), 10_000) == said_twice(data)


def test_a_loss_costs_two_round_trips() -> None:
    """No time has to pass: the next frame tells that one is missing, in both directions."""
    for direction in ("to_chip", "to_host"):
        pair, data = Pair(ChipEnd(twice, 4096)), bytes(3000)
        pair.turn()
        pair.host.write(data)
        setattr(pair, direction, lambda frames: frames[:100] + frames[101:])
        pair.turn()
        setattr(pair, direction, bytes)
        pair.until_received(6000, 12)
        assert pair.host.counters.silences == 0, direction


def test_the_last_frame_is_lost() -> None:
    """Only time tells."""
    pair = Pair(ChipEnd(twice))
    pair.turn()
    pair.host.write(b"abc")
    pair.host.to_send(pair.now)
    assert pair.until_received(6, 20) == said_twice(b"abc")
    assert pair.host.counters.silences == 1
    assert pair.host.counters.resent == 3


def test_the_line_breaks() -> None:
    """What was under way in both directions is gone, half of a frame included."""
    random = Random(1)
    pair, data = Pair(ChipEnd(twice)), random.randbytes(50_000)
    pair.host.write(data)
    while len(pair.host.received) < 100_000:
        pair.turn()
        assert pair.turns < 5000
        if pair.turns % 2 == 0:
            frames = pair.host.to_send(pair.now)
            answer = pair.chip.take(frames[: random.randrange(len(frames) + 1)])
            pair.host.tell(answer[: random.randrange(len(answer) + 1)], pair.now)
            # A frame that is cut stays so: what comes after the break begins anew at both ends.
            pair.chip.take(b"\x7e")
            pair.host.reconnected()
    assert bytes(pair.host.received) == said_twice(data)
    assert pair.host.counters.breaks > 10


def test_the_same_session_as_before() -> None:
    """By chance: the chip has numbers of that one, so it is not begun anew."""
    chip = ChipEnd(twice)
    first = Pair(chip)
    first.host.write(b"abc")
    first.until_received(6, 5)
    again = Pair(chip)
    again.host.write(b"de")
    assert again.until_received(4, 5) == said_twice(b"de")
    assert again.host.session == 4712
    assert chip.opened == 2


def test_answered_though_nothing_came() -> None:
    """`done` takes a second question: the first answer may have crossed with what is missing."""
    pair = Pair(ChipEnd(lambda byte: b""))
    pair.host.write(b"abc")
    while not pair.host.done:
        pair.turn()
        assert pair.turns < 100
    assert pair.host.counters.silences == 2
    pair.host.write(b"d")
    assert not pair.host.done


# -- answers by chance ---------------------------------------------------------------------------------


def mutations(seed: int, count: int) -> None:
    """Answers of a chip, most of them altered in some way: all that comes of them is what it said, in order."""
    random = Random(seed)
    pair = Pair(ChipEnd(twice, 4096))
    heard, data = 0, random.randbytes(1 << 16)
    written = 0
    while heard < count:
        if pair.host.unsent < 2000:
            pair.host.write(bytes(data[(written + n) % len(data)] for n in range(2000)))
            written += 2000
        answer = pair.chip.take(pair.host.to_send(pair.now))
        pair.now += 0.05
        for frame in re.findall(b"\x7e[^\x7e]+\x7e", answer):
            heard += 1
            pair.host.tell(mutated(frame, random), pair.now)
        if len(pair.host.received) > 1 << 16:
            check(pair, data)
    check(pair, data)
    # It goes on as if nothing had been.
    missing = 2 * written - pair.host.counters.received
    pair.turns = 0
    pair.until_received(missing + len(pair.host.received), 10_000)
    check(pair, data)


def check(pair: Pair, data: bytes) -> None:
    """Takes what has come."""
    received, end = bytes(pair.host.received), pair.host.counters.received
    begin = end - len(received)
    expected = said_twice(bytes(data[n % len(data)] for n in range(begin // 2, (end + 1) // 2)))
    skip = begin % 2
    assert received == expected[skip : skip + len(received)], f"bytes {begin} to {end}"
    pair.host.received.clear()


def mutated(frame: bytes, random: Random) -> bytes:
    kind = random.randrange(10)
    frame = bytearray(frame)
    place = random.randrange(len(frame))
    if kind <= 2:
        for _ in range(random.choice([1, 1, 2, 8])):
            frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
    elif kind == 3:
        del frame[place : place + random.choice([1, 1, 2, 30])]
    elif kind == 4:
        frame[place:place] = random.randbytes(random.choice([1, 1, 2, 30, 3000]))
    elif kind == 5:
        frame = frame[:place]
    elif kind == 6:
        frame = frame + frame
    elif kind == 7:
        frame = bytearray(random.randbytes(random.randrange(400)))
    elif kind == 8:
        frame[place:place] = b"\x7e" * random.randrange(1, 5)
    return bytes(frame)


def test_mutated_answers() -> None:
    mutations(seed=1, count=20_000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_million_mutated_answers(seed: int) -> None:
    mutations(seed, count=100_000)


@given(
    header=st.fixed_dictionaries({name: st.integers(0, (1 << bits) - 1) for name, bits in CHIP_HEADER.items()}),
    payload=st.binary(max_size=300),
)
@settings(max_examples=500, deadline=None)
def test_whole_frames_that_no_chip_sends(header: dict[str, int], payload: bytes) -> None:
    """Whatever they say, the host goes on or says what is wrong, and sends no more than was written."""
    pair = Pair(ChipEnd(twice))
    pair.host.write(bytes(1000))
    pair.turn()
    header = header | {"version": LINK_VERSION, "stuck": 0, "session": 4711}
    pair.host.tell(encode_frame(pack(CHIP_HEADER, **header), payload), pair.now)
    for _ in range(5):
        frames = pair.host.to_send(pair.now)
        assert len(frames) < 4000
        pair.now += 0.3
    assert pair.host.counters.sent <= 1000


@pytest.mark.parametrize("short", range(record_size(CHIP_HEADER)))
def test_frames_that_are_too_short(short: int) -> None:
    pair = Pair(ChipEnd(twice))
    pair.host.tell(encode_frame(bytes(short)), 0.0)
    assert pair.host.counters.bad == 1
    pair.host.write(b"a")
    assert pair.until_received(2, 5) == twice(97)


def test_noise_is_not_kept() -> None:
    decoder = FrameDecoder()
    for _ in range(100):
        assert decoder.feed(b"x" * 10_000) == []
        assert len(decoder._rest) <= 4 * MAX_PAYLOAD
    body = b"header"
    assert decoder.feed(b"\x7e" + body + zlib.crc32(body).to_bytes(4, "little") + b"\x7e") == [body]
    assert decoder.bad == 1


def test_a_reset_is_told_from_the_beginning_of_a_session() -> None:
    """A chip that says another session is not yet in this one, or no longer."""
    pair = Pair(ChipEnd(twice))
    header = HEADER | {"session": 0, "number": 0, "room": 0}
    frame = encode_frame(pack(CHIP_HEADER, **header))
    pair.host.tell(frame, 0.0)
    assert not pair.host.open
    pair.turn()
    assert pair.host.open
    # Two may have come late.
    pair.host.tell(2 * frame, 0.0)
    pair.turn()
    pair.host.tell(2 * frame, 0.0)
    with pytest.raises(StateLost, match=r"^the chip was reset: what it had learned is gone$"):
        pair.host.tell(frame, 0.0)
    with pytest.raises(DeviceError, match="watchdog"):
        pair.host.tell(encode_frame(pack(CHIP_HEADER, **header | {"stuck": 1})), 0.0)
