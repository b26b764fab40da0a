"""The register that leaps and vectorises against the one that moves bit by bit."""

from functools import cache
from math import isqrt, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from locallearn.quant.lfsr import STATE_BITS, TAPS, LeapingLfsr, bit_stream, leap, next_bits
from tests.compare import assert_same
from tests.naive import BitSerialLfsr

STATES = st.integers(1, (1 << STATE_BITS) - 1)
STEPS = (1, 2, 4, 8, 16, 32)


def serial_bits(state: int, count: int) -> list[int]:
    register = BitSerialLfsr(state)
    return [register.step() for _ in range(count)]


@given(STATES, st.integers(0, 1000))
def test_next_bits(state: int, count: int) -> None:
    packed = next_bits(state, count)
    assert packed >> count == 0
    assert_same("bit", serial_bits(state, count), [packed >> t & 1 for t in range(count)])


@given(STATES, st.integers(0, 1000))
def test_leap_is_many_steps(state: int, steps: int) -> None:
    register = BitSerialLfsr(state)
    for _ in range(steps):
        register.step()
    assert leap(state, steps) == register.state


@given(STATES, st.integers(0, 300), st.integers(0, 300))
def test_leaps_add_up(state: int, first: int, second: int) -> None:
    assert leap(leap(state, first), second) == leap(state, first + second)


@given(STATES, st.integers(0, 2000))
def test_bit_stream(state: int, count: int) -> None:
    assert_same("bit", serial_bits(state, count), bit_stream(state, count))


@given(STATES, st.sampled_from(STEPS), st.integers(0, 200))
def test_take_small(state: int, step: int, count: int) -> None:
    register, words = BitSerialLfsr(state), []
    for _ in range(count):
        words.append(register.state)
        for _ in range(step):
            register.step()
    leaping = LeapingLfsr(state, step)
    assert_same("word", np.array(words, np.uint64), leaping.take(count))
    assert leaping.state == register.state


START = 0x0123456789ABCDEF
LONG = 60_000
"""Words that need more than two blocks of a register."""


@cache
def long_reference(step: int) -> NDArray[np.uint64]:
    """The LONG states `step` apart, cut out of one long run of bits."""
    bits = np.array(serial_bits(START, LONG * step + STATE_BITS), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(bits, STATE_BITS)[::step][:LONG]
    return np.packbits(windows, axis=1, bitorder="little").view("<u8")[:, 0]


@pytest.mark.parametrize("step", [1, 32])
@settings(max_examples=30)
@given(counts=st.lists(st.integers(0, 64) | st.integers(0, 20_000), min_size=1, max_size=20))
def test_take_across_blocks(step: int, counts: list[int]) -> None:
    """However the words are asked for, they are the same."""
    expected, register, start = long_reference(step), LeapingLfsr(START, step), 0
    for count in counts:
        if start + count >= LONG:
            break
        assert_same(f"word {start} +", expected[start : start + count], register.take(count))
        start += count
        assert register.state == expected[start]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_take_little_by_little(count: int) -> None:
    """Wherever a block ends, some request ends right before it, at it, or reaches across."""
    register = LeapingLfsr(START, 32)
    words = [register.take(count) for _ in range(LONG // count)]
    assert_same("word", long_reference(32), np.concatenate(words))


@given(STATES)
def test_never_zero(state: int) -> None:
    assert LeapingLfsr(state, 32).take(100).all()


def times(a: int, b: int, modulus: int) -> int:
    """The product of two polynomials over GF(2), bit n for x^n, modulo a third."""
    degree, result = modulus.bit_length() - 1, 0
    while b:
        if b & 1:
            result ^= a
        a <<= 1
        if a >> degree:
            a ^= modulus
        b >>= 1
    return result


def power_of_x(exponent: int, modulus: int) -> int:
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = times(result, square, modulus)
        square = times(square, square, modulus)
        exponent >>= 1
    return result


def test_polynomial_is_primitive() -> None:
    """x has order 2^64 - 1: the powers of x are then all the residues but 0, and so are the states."""
    factors = (3, 5, 17, 257, 641, 65537, 6700417)
    period = 2**STATE_BITS - 1
    assert prod(factors) == period
    assert all(factor % divisor for factor in factors for divisor in range(2, isqrt(factor) + 1))
    polynomial = 1 << STATE_BITS | sum(1 << (STATE_BITS - tap) for tap in TAPS)
    assert polynomial == 1 << 64 | 0b11011
    assert power_of_x(period, polynomial) == 1
    for factor in factors:
        assert power_of_x(period // factor, polynomial) != 1, f"the period divides (2^64 - 1) / {factor}"


def test_order_tells_polynomials_apart() -> None:
    """The check above can fail: x^64 + x^3 + x + 1 is no primitive polynomial."""
    assert power_of_x(2**STATE_BITS - 1, 1 << 64 | 0b1011) != 1
