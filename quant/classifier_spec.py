"""The description of what a layer learns from: its classifier's matrix, the way back, the loss, whose error."""

from dataclasses import dataclass

from locallearn.quant.checks import check_choice, check_int
from locallearn.quant.errors import SpecError

__all__ = ["ClassifierSpec"]


@dataclass(frozen=True)
class ClassifierSpec:
    """A layer's local classifier, s = M y, and how an error e comes back to the layer's neurons, d = K e.

    Entries of M and K are made from random bits of which each adds or takes away its weight.

    matrix         M. uniform: weights 1, 2, 4, .., so every odd number from -(2^bits - 1) to 2^bits - 1 is as likely,
                   +-1 with one bit. ternary: weights 1 and 1, so -2, 0 and 2 at odds of 1:2:1
    bits           of an entry of a uniform matrix
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
    bits: int = 1
    feedback: str = "symmetric"
    feedback_bits: int = 4
    loss: str = "cross-entropy"
    error: str = "local"

    def check(self, where: str) -> None:
        """Raises SpecError, naming the field below `where`, for what is unknown or contradicts itself."""
        for name, choices in (
            ("matrix", ("uniform", "ternary")),
            ("feedback", ("symmetric", "sign-concordant", "random")),
            ("loss", ("cross-entropy", "squared-hinge")),
            ("error", ("local", "top", "label")),
        ):
            check_choice(f"{where}.{name}", getattr(self, name), choices)
        check_int(f"{where}.bits", self.bits, 1, 8)
        check_int(f"{where}.feedback_bits", self.feedback_bits, 1, 8)
        if self.matrix == "ternary" and self.bits != 1:
            raise SpecError(f"{where}.bits = {self.bits}: a ternary matrix has none to choose, leave it out")
        if self.matrix == "ternary" and self.feedback == "sign-concordant":
            raise SpecError(f"{where}.feedback = 'sign-concordant': the zeros of a ternary matrix have no sign")
        if self.feedback == "sign-concordant" and self.feedback_bits == 1:
            raise SpecError(f"{where}.feedback_bits = 1: one is the sign, at least 2 are needed for magnitudes")
        if self.loss != "cross-entropy" and self.error != "local":
            raise SpecError(f"{where}.loss = {self.loss!r}: only a local error has a loss, error is {self.error!r}")

    @property
    def matrix_weights(self) -> tuple[int, ...]:
        """What the random bits of an entry of M add or take away; a uniform entry's last bit is its sign."""
        return (1, 1) if self.matrix == "ternary" else tuple(1 << bit for bit in range(self.bits))

    @property
    def feedback_weights(self) -> tuple[int, ...]:
        """The same of K."""
        return self.matrix_weights if self.feedback == "symmetric" else tuple(1 << b for b in range(self.feedback_bits))

    @property
    def shape(self) -> tuple[object, ...]:
        """Differs between classifiers whose hardware does."""
        return (self.matrix_weights, self.feedback, self.feedback_weights, self.loss, self.error)
