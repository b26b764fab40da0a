"""Payloads as bits, and the paces of a stream's ends."""

import itertools
from typing import Any

import pytest
from amaranth import Shape, signed, unsigned
from amaranth.lib import data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from locallearn.sim.streams import IDLE, STALLS, pace, pack, unpack

plain = st.builds(Shape, st.integers(1, 70), st.booleans())


def layouts(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    structures = st.dictionaries(st.sampled_from("abcd"), inner, min_size=1).map(data.StructLayout)
    return structures | st.builds(data.ArrayLayout, inner, st.integers(1, 4))


def value_of(draw: DrawFn, shape: Any) -> Any:
    if isinstance(shape, data.StructLayout):
        return {key: value_of(draw, field.shape) for key, field in shape}
    if isinstance(shape, data.ArrayLayout):
        return [value_of(draw, shape.elem_shape) for _ in range(shape.length)]
    low = -(1 << shape.width - 1) if shape.signed else 0
    return draw(st.integers(low, low + (1 << shape.width) - 1))


@st.composite
def shaped_values(draw: DrawFn) -> tuple[Any, Any]:
    shape = draw(st.recursive(plain, layouts, max_leaves=6))
    return shape, value_of(draw, shape)


@given(shaped_values())
def test_bits_are_those_of_amaranth(shaped_value: tuple[Any, Any]) -> None:
    shape, value = shaped_value
    bits = pack(shape, value)
    if isinstance(shape, data.Layout):
        assert bits == shape.const(value).as_value().value
    assert unpack(shape, bits) == value


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        (unsigned(3), 8, "8 does not fit unsigned(3)"),
        (unsigned(3), -1, "-1 does not fit unsigned(3)"),
        (signed(3), 4, "4 does not fit signed(3)"),
        (signed(3), -5, "-5 does not fit signed(3)"),
        (data.StructLayout({"a": 1, "b": 1}), {"a": 1}, "fields ['a'] given, ['a', 'b'] needed"),
        (data.ArrayLayout(1, 2), [1, 1, 1], "fields [0, 1, 2] given, [0, 1] needed"),
    ],
)
def test_what_does_not_fit_is_refused(shape: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        pack(shape, value)
    assert str(raised.value) == message


@pytest.mark.parametrize("kind", STALLS)
def test_paces_pause_as_they_are_called(kind: str) -> None:
    """All but the steady one both pause and go on, the same way for the same seed."""
    turns, again = pace(kind, 1), pace(kind, 1)
    willing = [turns(True) for _ in range(200)]
    assert willing == [again(True) for _ in range(200)]
    assert any(willing) and all(willing) == (kind == "steady")
    if kind == "reluctant":
        assert not any(turns(False) for _ in range(200))


def test_bursts_are_of_many_lengths() -> None:
    turns = pace("bursts", 1)
    lengths = {len(list(run)) for _, run in itertools.groupby(turns(False) for _ in range(1000))}
    assert {1, 2, 8, 12} <= lengths <= set(range(1, 13))
    assert set(STALLS) - set(IDLE) == {"reluctant"}
