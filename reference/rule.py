"""What every float reference is: a network of dense ReLU layers with one rule to learn by."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

__all__ = ["Rule"]


class Rule(ABC):
    """Layers of `sizes` (inputs, then the neurons of every layer), biases included, in float32 on the CPU.

    Equal seeds give equal networks; learning is deterministic where torch runs on one thread.
    """

    def __init__(self, sizes: Sequence[int], classes: int, seed: int) -> None:
        self.sizes = tuple(sizes)
        self.classes = classes
        self.seed = seed

    @abstractmethod
    def learn(self, x: Tensor, labels: Tensor, batch: int, rate: float) -> None:
        """One pass over x (n, inputs) float32 and labels (n,) int64 in their order, `batch` samples an update.

        The gradient is the mean over the batch, so the same `rate` makes steps of the same size at any batch.
        The last batch may be smaller.
        """

    @abstractmethod
    def scores(self, x: Tensor) -> list[Tensor]:
        """What each of the network's classifiers says of x (n, inputs), from the first layer up: (n, classes)."""
