"""The description of what a layer learns from: its classifier's matrix, the way back, the loss, whose error."""

from dataclasses import dataclass

from locallearn.quant.checks import check_choice, check_int
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat

__all__ = ["ClassifierSpec"]


@dataclass(frozen=True)
class ClassifierSpec:
    """A layer's local classifier, s = M y, and how an error e comes back to the layer's neurons, d = K e.

    Entries of M and K are made from random bits of which each adds or takes away its weight.

    matrix         M. uniform: weights 1, 2, 4, .., so every odd number from -(2^bits - 1) to 2^bits - 1 is as likely,
                   +-1 with one bit. ternary: weights 1 and 1, so -2, 0 and 2 at odds of 1:2:1. learned: kept on the
                   chip and learned as the layer's weights are, M -= 2^-rate_shift e y^T, from uniform +-1 on
    bits           of an entry of a uniform matrix, 1 by default, or a learned one, 12 by default: -4.0 to below 4.0
    rate_shift     of a learned matrix; it grows by the layer's decay
    feedback       K. symmetric: M^T. sign-concordant: M's signs, other magnitudes. random: nothing of M
    feedback_bits  of an entry of K, uniform, where that is not M^T
    loss           cross-entropy: e = softmax(s) - t. squared-hinge: e = -u max(0, 1 - u s) with u = 1 for the sample's
                   class, -1 for the others
    error          e. local: that of this classifier. top: that of the last layer's, direct feedback alignment. label:
                   -t, direct random target projection. With the last two this classifier only says what it sees

    Sources: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017); Nokland, "Direct
    feedback alignment provides learning in deep neural networks" (2016); Frenkel, Lefebvre, Bol, "Learning without
    feedback: fixed random learning signals allow for feedforward training of deep neural networks" (2021).
    """

    matrix: str = "uniform"
    bits: int | None = None
    rate_shift: int = 3
    feedback: str = "symmetric"
    feedback_bits: int = 4
    loss: str = "cross-entropy"
    error: str = "local"

    def check(self, where: str) -> None:
        """Raises SpecError, naming the field below `where`, for what is unknown or contradicts itself."""
        for name, choices in (
            ("matrix", ("uniform", "ternary", "learned")),
            ("feedback", ("symmetric", "sign-concordant", "random")),
            ("loss", ("cross-entropy", "squared-hinge")),
            ("error", ("local", "top", "label")),
        ):
            check_choice(f"{where}.{name}", getattr(self, name), choices)
        if self.bits is not None:
            check_int(f"{where}.bits", self.bits, *((8, 16) if self.matrix == "learned" else (1, 8)))
        check_int(f"{where}.rate_shift", self.rate_shift, 0, 16)
        check_int(f"{where}.feedback_bits", self.feedback_bits, 1, 8)
        if self.matrix == "ternary" and self.bits is not None:
            raise SpecError(f"{where}.bits = {self.bits}: a ternary matrix has none to choose, leave it out")
        if self.matrix == "ternary" and self.feedback == "sign-concordant":
            raise SpecError(f"{where}.feedback = 'sign-concordant': the zeros of a ternary matrix have no sign")
        if self.feedback == "sign-concordant" and self.feedback_bits == 1:
            raise SpecError(f"{where}.feedback_bits = 1: one is the sign, at least 2 are needed for magnitudes")
        if self.learns and (self.feedback != "symmetric" or self.error != "local"):
            choice = f"feedback = {self.feedback!r}" if self.feedback != "symmetric" else f"error = {self.error!r}"
            raise SpecError(f"{where}.{choice}: a learned matrix learns from its own error and brings it back itself")
        if self.loss != "cross-entropy" and self.error != "local":
            raise SpecError(f"{where}.loss = {self.loss!r}: only a local error has a loss, error is {self.error!r}")

    @property
    def matrix_weights(self) -> tuple[int, ...]:
        """What the random bits of an entry of M add or take away; a uniform entry's last bit is its sign."""
        if self.learns:
            return ()
        return (1, 1) if self.matrix == "ternary" else tuple(1 << bit for bit in range(self.bits or 1))

    @property
    def feedback_weights(self) -> tuple[int, ...]:
        """The same of K."""
        return self.matrix_weights if self.feedback == "symmetric" else tuple(1 << b for b in range(self.feedback_bits))

    @property
    def learns(self) -> bool:
        """M does."""
        return self.matrix == "learned"

    @property
    def format(self) -> QFormat:
        """Of a learned matrix's entries."""
        bits = self.bits or 12
        return QFormat(bits, bits - 3, signed=True)

    @property
    def shape(self) -> tuple[object, ...]:
        """Differs between classifiers whose hardware does."""
        learned = (self.format.bits, self.rate_shift) if self.learns else None
        return (self.matrix_weights, self.feedback, self.feedback_weights, self.loss, self.error, learned)
