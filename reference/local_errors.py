"""Learning from local errors: every layer has a random classifier of its own and waits for no error from above."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from locallearn.reference.layers import Conv, Dense, random_matrix
from locallearn.reference.losses import LOSSES, Loss
from locallearn.reference.rule import Rule

__all__ = ["Classifier", "Feedback", "LocalErrors", "Matrix"]

Matrix = Literal["signs", "uniform"]
Feedback = Literal["symmetric", "sign-concordant", "random", "trainable"]


@dataclass(frozen=True)
class Classifier:
    """matrix is M, feedback is K; both (classes, features of the layer)."""

    matrix: Tensor
    feedback: Tensor


class LocalErrors(Rule):
    """For every layer with output y and target t:

        s = M y'    e = dL/ds    dE/dy' = K^T e

    where y' is y, flattened; but where a convolution has a resolution r, the averages of y over r x r cells of rows / r
    x columns / r pixels in each channel:

        y'_c = (sum of y_p over the pixels p of cell c) / (pixels of a cell)    dE/dy_p = (K^T e)_c / (pixels of a cell)

    and from there the layer's own gradients. y goes on to the next layer at once: all layers learn from a sample in
    the one pass that infers it. Every layer's classifier answers, so there are as many scores as layers.

    matrix    signs: M of +-gain / sqrt(features), with which the scores of random activations of about 1 differ by
              about `gain`; uniform: +-sqrt(6 / (features + classes)), as the paper has it
    feedback  symmetric: K = M. sign-concordant: |K| drawn anew, its signs M's. random: all of K drawn anew.
              trainable: K = M, which learns by dL/dM = e y'^T
    loss      L
    gain      of M with signs

    Source: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017).
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[Dense | Conv],
        classes: int,
        seed: int,
        matrix: Matrix = "uniform",
        feedback: Feedback = "symmetric",
        loss: Loss = "cross-entropy",
        gain: float = 3.0,
    ) -> None:
        super().__init__(shape, hidden, classes, seed)
        self._trainable = feedback == "trainable"
        self._error = LOSSES[loss]
        self.classifiers: list[Classifier] = []
        for layer in self.layers:
            drawn, other = (random_matrix((classes, layer.features), self.random) for _ in range(2))
            if matrix == "signs":
                drawn = gain / layer.features**0.5 * drawn.sign()
            back = {"sign-concordant": drawn.sign() * other.abs(), "random": other}.get(feedback, drawn)
            self.classifiers.append(Classifier(drawn, back))

    @property
    def parameters(self) -> list[Tensor]:
        """The layers', and where it is trainable every M behind them."""
        matrices = [classifier.matrix for classifier in self.classifiers]
        return super().parameters + matrices * self._trainable

    def gradients(self, x: Tensor, targets: Tensor) -> list[Tensor]:
        gradients, matrices = [], []
        for layer, classifier in zip(self.layers, self.classifiers, strict=True):
            passed = layer.forward(x)
            seen = layer.see(passed.y)
            error = self._error(seen @ classifier.matrix.T, targets) / len(x)
            from_classifier = layer.from_seen(error @ classifier.feedback)
            gradients += layer.gradients(passed, layer.through_activation(passed, from_classifier))
            matrices.append(error.T @ seen)
            x = passed.y
        return gradients + matrices * self._trainable

    def scores(self, x: Tensor) -> list[Tensor]:
        answers = []
        for layer, classifier in zip(self.layers, self.classifiers, strict=True):
            x = layer.forward(x).y
            answers.append(layer.see(x) @ classifier.matrix.T)
        return answers
