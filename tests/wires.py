"""The far end of a serial wire in a cocotb bench: its bits last what its own clock says."""

from collections.abc import Iterable
from typing import Any

from cocotb.triggers import FallingEdge, Timer

__all__ = ["listen", "send_byte", "send_bytes"]


async def send_byte(wire: Any, byte: int, bit_ps: int, stop: int = 1) -> None:
    """One byte, 8N1, and its stop bit, which is missing if `stop` is 0."""
    for bit in (0, *(byte >> place & 1 for place in range(8)), stop):
        wire.value = bit
        await Timer(bit_ps, "ps")


async def send_bytes(wire: Any, data: Iterable[int], bit_ps: int) -> None:
    """Without a pause in between."""
    for byte in data:
        await send_byte(wire, byte, bit_ps)


async def listen(wire: Any, bit_ps: int, received: bytearray) -> None:
    """Gathers what is said, for ever. A bit that changes around its middle, or no stop bit, fails the test."""
    while True:
        await FallingEdge(wire)
        bits = []
        await Timer(bit_ps * 3 // 8, "ps")
        for place in range(10):
            early = int(wire.value)
            await Timer(bit_ps // 4, "ps")
            late = int(wire.value)
            assert early == late, f"byte {len(received)}: bit {place} changes in its middle"
            bits.append(late)
            if place < 9:
                await Timer(bit_ps * 3 // 4, "ps")
        assert bits[0] == 0 and bits[9] == 1, f"byte {len(received)}: start and stop are {bits[0]} and {bits[9]}"
        received.append(sum(bit << place for place, bit in enumerate(bits[1:9])))
