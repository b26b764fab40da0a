"""The 64-bit linear feedback shift register behind the classifier's signs and the rounding noise.

The sequence is b[t] = b[t-64] ^ b[t-63] ^ b[t-61] ^ b[t-60] (x^64 + x^4 + x^3 + x + 1, primitive: the
period is 2^64 - 1). A state is the next 64 bits to come out, the first of them in bit 0. As all taps lie
at the old end, up to 60 new bits depend on the state alone, four input bits each: a leap forward by a
whole word costs one 4-input XOR a bit on the chip.

The recurrence also holds between bits 2^m apart (squaring is linear over GF(2)), so successive states of a
register that leaps by a power of two obey it word by word. That makes the vectorised `LeapingLfsr` simple.

Source: maximal-length taps from P. Alfke, Xilinx XAPP 052 (1996).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["STATE_BITS", "TAPS", "LeapingLfsr", "bit_stream", "leap", "next_bits"]

STATE_BITS = 64
TAPS = (64, 63, 61, 60)
"""How far back each bit of the sequence looks."""

_REACH = min(TAPS)
"""New bits that depend on the state alone."""

_STATE_MASK = (1 << STATE_BITS) - 1


def next_bits(state: int, count: int) -> int:
    """The next `count` bits of the sequence as an integer, the first bit in bit 0."""
    sequence, known = state, STATE_BITS
    while known < count:
        # `known - 64` bits down, the sequence shows what each tap sees for the next `_REACH` bits.
        feedback = 0
        for tap in TAPS:
            feedback ^= sequence >> (known - tap)
        sequence |= (feedback & ((1 << _REACH) - 1)) << known
        known += _REACH
    return sequence & ((1 << count) - 1)


def leap(state: int, steps: int) -> int:
    """The state after `steps` steps of one bit each."""
    return next_bits(state, steps + STATE_BITS) >> steps & _STATE_MASK


class LeapingLfsr:
    """A register that leaps `step` bits at a time; `take` makes many states at once.

    `step` must be a power of two, for the recurrence to hold between whole states.
    """

    _BLOCK = 1 << 14

    def __init__(self, state: int, step: int) -> None:
        self._step = step
        self._restart(state)

    @property
    def state(self) -> int:
        """The state that the next `take` begins with."""
        return int(self._words[self._used])

    @state.setter
    def state(self, state: int) -> None:
        self._restart(state)

    def _restart(self, state: int) -> None:
        first = [state]
        while len(first) < STATE_BITS:
            first.append(leap(first[-1], self._step))
        self._words = np.array(first, dtype=np.uint64)
        self._used = 0

    def _extend(self) -> None:
        """Append words, nearly doubling their number each time, up to a block."""
        words = self._words
        while len(words) < self._BLOCK:
            # The largest 2^m with 64 * 2^m words known: the recurrence then reaches 60 * 2^m ahead.
            scale = 1 << ((len(words) // STATE_BITS).bit_length() - 1)
            reach = _REACH * scale
            new = np.zeros(reach, dtype=np.uint64)
            for tap in TAPS:
                start = len(words) - tap * scale
                new ^= words[start : start + reach]
            words = np.concatenate([words, new])
        self._words = words

    def take(self, count: int) -> NDArray[np.uint64]:
        """The next `count` states, shape (count,); the register moves on by as many leaps."""
        taken = []
        while count:
            if self._used + count >= len(self._words):
                if len(self._words) < self._BLOCK:
                    self._extend()
                    continue
                # Keep the last word as the state to go on from.
                part = self._words[self._used : -1]
                self._restart(int(self._words[-1]))
            else:
                part = self._words[self._used : self._used + count]
                self._used += count
            taken.append(part)
            count -= len(part)
        return np.concatenate(taken) if taken else np.empty(0, dtype=np.uint64)


def bit_stream(state: int, count: int) -> NDArray[np.uint8]:
    """The next `count` bits of the sequence, shape (count,), each 0 or 1."""
    words = LeapingLfsr(state, 32).take(-(-count // 32))
    low = words.astype("<u4").view(np.uint8)
    return np.unpackbits(low, bitorder="little")[:count]
