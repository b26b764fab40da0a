"""A line that loses and alters what it carries, by chance."""

from dataclasses import dataclass
from random import Random

__all__ = ["Noise"]


@dataclass
class Noise:
    """What happens to bytes, each with its probability for every byte of a line.

    flip, drop, insert, double  one bit of it; the byte; one before it; it comes twice
    cut, repeat                 some hundred bytes from it on; they come a second time
    """

    flip: float = 0
    drop: float = 0
    insert: float = 0
    double: float = 0
    cut: float = 0
    repeat: float = 0

    def __call__(self, data: bytes, rng: Random) -> bytes:
        total = self.flip + self.drop + self.insert + self.double + self.cut + self.repeat
        out, at = bytearray(), 0
        while total:
            next_at = at + int(rng.expovariate(total))
            if next_at >= len(data):
                break
            out += data[at:next_at]
            at = next_at + 1
            byte, length = data[next_at], rng.randint(1, 400)
            kind = rng.choices(
                ("flip", "drop", "insert", "double", "cut", "repeat"),
                (self.flip, self.drop, self.insert, self.double, self.cut, self.repeat),
            )[0]
            if kind == "flip":
                out.append(byte ^ 1 << rng.randrange(8))
            elif kind == "insert":
                out += bytes([rng.randrange(256), byte])
            elif kind == "double":
                out += bytes([byte, byte])
            elif kind == "cut":
                at = next_at + length
            elif kind == "repeat":
                out += data[next_at : next_at + length] * 2
                at = next_at + length
        return bytes(out + data[at:])
