"""Claims that fit more than one component."""

from typing import Any

from amaranth import Signal, Value

from tests.formal.prove import Claims

__all__ = ["assume_kept", "assume_stream", "claim_kept", "claim_stream"]


def claim_kept(claims: Claims, name: str, offered: Value, until: Value, *what: Any) -> None:
    """Claim that what is `offered` stays offered and unchanged `until` the end of a cycle that ends it."""
    claims.require(f"{name}_kept", _kept(claims, offered, until, what))


def assume_kept(claims: Claims, offered: Value, until: Value, *what: Any) -> None:
    """Assume what `claim_kept` claims."""
    claims.assume(_kept(claims, offered, until, what))


def claim_stream(claims: Claims, name: str, stream: Any) -> None:
    """Claim that a source keeps the rules of streams: what it offers stays until taken, and it never waits to be asked.

    Both a transfer that had to wait and an offer without any `ready` before it are to be reached.
    """
    claim_kept(claims, name, stream.valid, stream.ready, stream.payload)
    asked = Signal()
    with claims.m.If(stream.ready):
        claims.m.d.sync += asked.eq(1)
    claims.reach(f"{name}_unasked", stream.valid & ~stream.ready & ~asked)
    claims.reach(f"{name}_taken", claims.past(stream.valid & ~stream.ready) & stream.valid & stream.ready)


def assume_stream(claims: Claims, stream: Any) -> None:
    """Assume that a source keeps the rules of streams."""
    assume_kept(claims, stream.valid, stream.ready, stream.payload)


def _kept(claims: Claims, offered: Value, until: Value, what: tuple[Any, ...]) -> Value:
    waiting = claims.past(offered & ~until)
    same: Value = offered
    for value in map(Value.cast, what):
        same = same & (value == claims.past(value))
    return ~waiting | same
