"""Fixed-point number formats."""

from dataclasses import dataclass

from locallearn.quant.errors import SpecError

__all__ = ["QFormat"]


@dataclass(frozen=True)
class QFormat:
    """A fixed-point format: an integer of `bits` bits whose unit is 2^-`fraction`.

    Unsigned formats hold 0 .. 2^bits - 1, signed ones (two's complement) -2^(bits-1) .. 2^(bits-1) - 1.
    """

    bits: int
    fraction: int
    signed: bool = False

    @property
    def min(self) -> int:
        """Smallest integer of the format."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def half(self) -> int:
        """The integer that stands for 0.5."""
        return 1 << (self.fraction - 1)

    def check(self, what: str, bits: range, fraction: range) -> None:
        """Raise SpecError unless both numbers lie in their ranges."""
        for name, value, allowed in (("bits", self.bits, bits), ("fraction", self.fraction, fraction)):
            if value not in allowed:
                raise SpecError(f"{what}.{name} = {value}: must be between {allowed.start} and {allowed.stop - 1}")

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}.{self.fraction}"
