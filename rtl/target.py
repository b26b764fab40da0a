"""What a family of parts offers the chip: the shapes of its block RAMs, and where weights lie."""

from dataclasses import dataclass

__all__ = ["ECP5", "GENERIC", "GOWIN", "ICE40UP", "NEXUS", "SINGLE_PORT", "SPRAM", "TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A family of parts.

    name                 as boards name it
    blocks               (depth, width) of a block RAM with one read and one write port, shallow first; none where
                         memories are left whole
    lut_ram              LUTs can hold small memories
    single_port_weights  weights lie in single-port memories: a row is read or written in a cycle, never both
    """

    name: str
    blocks: tuple[tuple[int, int], ...] = ()
    lut_ram: bool = True
    single_port_weights: bool = False

    def slices(self, width: int, depth: int) -> tuple[int, ...]:
        """Widths in bits of the blocks side by side, each spanning the whole depth; their sum is `width`.

        Where no block is as deep, each is one of the deepest shape in every one of `banks(depth)`.
        """
        if not self.blocks:
            return (width,)
        # No block needs another's depth behind it, so that no multiplexer follows a block.
        _, widest = next((shape for shape in self.blocks if shape[0] >= depth), self.blocks[-1])
        full, rest = divmod(width, widest)
        return (widest,) * full + (rest,) * (rest > 0)

    def in_luts(self, depth: int) -> bool:
        """Whether a memory of so few words is better off in LUTs, however wide: blocks would be nearly empty."""
        return bool(self.blocks) and self.lut_ram and depth <= 64

    def small_in_blocks(self, width: int, depth: int) -> bool:
        """Whether even a small memory lies in block RAM: there is nothing else, or it is deep, or of 100 LUTs."""
        return bool(self.blocks) and (not self.lut_ram or width * depth > 2048 or depth > 512)

    def banks(self, depth: int) -> int:
        """How many blocks behind one another make the depth."""
        return -(-depth // self.blocks[-1][0]) if self.blocks else 1

    def block_rams(self, width: int, depth: int) -> int:
        """How many blocks make a memory."""
        return len(self.slices(width, depth)) * self.banks(depth)


_18_KBIT = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))

GENERIC = Target("generic")
"""No part: memories and multipliers as simulators like them."""

SINGLE_PORT = Target("single-port", single_port_weights=True)
"""No part either: with weights as in SPRAM, for simulation."""

ECP5 = Target("ecp5", _18_KBIT)
ICE40UP = Target("ice40up", ((256, 16), (512, 8), (1024, 4), (2048, 2)), lut_ram=False, single_port_weights=True)
SPRAM = (16384, 16)
"""(depth, width) of the single-port memories of ICE40UP."""

GOWIN = Target("gowin", _18_KBIT)
NEXUS = Target("nexus", _18_KBIT)

TARGETS = {target.name: target for target in (GENERIC, SINGLE_PORT, ECP5, ICE40UP, GOWIN, NEXUS)}
"""All targets by name."""
