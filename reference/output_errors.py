"""Rules that learn from the error of the one output layer, and differ in how it comes to the layers below."""

import math
from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from locallearn.reference.layers import Conv, Dense, Pass, random_matrix
from locallearn.reference.losses import cross_entropy_error
from locallearn.reference.rule import Rule

__all__ = ["Backprop", "DirectFeedbackAlignment", "DirectRandomTargetProjection", "FeedbackAlignment"]


class _OutputRule(Rule):
    """The hidden layers, and on them a linear layer that learns from the cross-entropy's own gradient:

        z_out = W_out y + b_out    e = softmax(z_out) - t    dL/dW_out = e y^T    dL/db_out = e

    There is one classifier, so one score.
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[Dense | Conv], classes: int, seed: int) -> None:
        super().__init__(shape, [*hidden, Dense(classes)], classes, seed)

    @abstractmethod
    def hidden_errors(self, passes: list[Pass], error: Tensor, targets: Tensor) -> list[Tensor]:
        """What stands for dL/dz of every layer but the last, from the first up.

        passes of all layers; `error` e and `targets` t (n, classes), divided by n.
        """

    def gradients(self, x: Tensor, targets: Tensor) -> list[Tensor]:
        passes: list[Pass] = []
        for layer in self.layers:
            passes.append(layer.forward(passes[-1].y if passes else x))
        error = cross_entropy_error(passes[-1].z, targets) / len(x)
        errors = [*self.hidden_errors(passes, error, targets / len(x)), error]
        triples = zip(self.layers, passes, errors, strict=True)
        return [gradient for layer, passed, e in triples for gradient in layer.gradients(passed, e)]

    def scores(self, x: Tensor) -> list[Tensor]:
        *hidden, output = self.layers
        for layer in hidden:
            x = layer.forward(x).y
        return [output.forward(x).z]

    def _down(self, passes: list[Pass], error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Layer by layer, through `weights` in place of each layer's own."""
        errors = [error]
        for number in range(len(self.layers) - 1, 0, -1):
            from_above = self.layers[number].to_input(passes[number], errors[0], weights[number])
            below = passes[number - 1]
            errors.insert(0, self.layers[number - 1].through_activation(below, from_above.view_as(below.y)))
        return errors[:-1]


class Backprop(_OutputRule):
    """dL/dy_l = W_{l+1}^T dL/dz_{l+1}.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors" (1986).
    """

    def hidden_errors(self, passes: list[Pass], error: Tensor, targets: Tensor) -> list[Tensor]:
        return self._down(passes, error, [layer.weight for layer in self.layers])


class FeedbackAlignment(_OutputRule):
    """dL/dy_l = B_{l+1}^T dL/dz_{l+1}: B is shaped and drawn as W, and stays.

    Source: Lillicrap, Cownden, Tweed, Akerman, "Random synaptic feedback weights support error backpropagation for
    deep learning" (2016).
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[Dense | Conv], classes: int, seed: int) -> None:
        super().__init__(shape, hidden, classes, seed)
        self.feedback = [layer.random_weight(self.random) for layer in self.layers]

    def hidden_errors(self, passes: list[Pass], error: Tensor, targets: Tensor) -> list[Tensor]:
        return self._down(passes, error, self.feedback)


class DirectFeedbackAlignment(_OutputRule):
    """dL/dy_l = B_l^T e: the output's error goes to every layer at once, through a random matrix that stays.

    B is uniform in +-sqrt(6 / (entries + classes)).

    Source: Nokland, "Direct feedback alignment provides learning in deep neural networks" (2016).
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[Dense | Conv], classes: int, seed: int) -> None:
        super().__init__(shape, hidden, classes, seed)
        shapes = [(classes, math.prod(layer.outputs)) for layer in self.layers[:-1]]
        self.feedback = [random_matrix(shape, self.random) for shape in shapes]

    def hidden_errors(self, passes: list[Pass], error: Tensor, targets: Tensor) -> list[Tensor]:
        return self._project(passes, error)

    def _project(self, passes: list[Pass], signal: Tensor) -> list[Tensor]:
        """`signal` (n, classes) at every hidden layer, through its B."""
        hidden = zip(self.layers, passes, self.feedback, strict=False)  # the last layer has none
        return [layer.through_activation(passed, (signal @ b).view_as(passed.y)) for layer, passed, b in hidden]


class DirectRandomTargetProjection(DirectFeedbackAlignment):
    """dL/dy_l = B_l^T t: as direct feedback alignment, from the label alone, before there is any error.

    Source: Frenkel, Lefebvre, Bol, "Learning without feedback: fixed random learning signals allow for feedforward
    training of deep neural networks" (2021).
    """

    def hidden_errors(self, passes: list[Pass], error: Tensor, targets: Tensor) -> list[Tensor]:
        return self._project(passes, targets)
