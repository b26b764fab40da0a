"""A line that loses and alters what it carries, by chance."""

from dataclasses import dataclass
from random import Random

__all__ = ["Noise"]


@dataclass
class Noise:
    """Chances for each byte: that bits of it are turned, that it is lost, that it comes twice, and for each piece that
    goes over the line, that none of it arrives."""

    random: Random
    flip: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    lose: float = 0.0

    def carry(self, data: bytes) -> bytes:
        """What arrives of it."""
        random = self.random
        if data and random.random() < self.lose:
            return b""
        arrived = bytearray()
        position, total = 0, self.flip + self.drop + self.double
        while position < len(data):
            # From one byte that something happens to, to the next.
            quiet = int(random.expovariate(total)) if total else len(data)
            arrived += data[position : position + quiet]
            position += quiet
            if position < len(data):
                byte, what = data[position], random.random() * total
                if what < self.flip:
                    arrived.append(byte ^ random.randrange(1, 256))
                elif what < self.flip + self.double:
                    arrived += bytes([byte, byte])
                position += 1
        return bytes(arrived)
