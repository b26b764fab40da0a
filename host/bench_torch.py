"""PyTorch's part in the comparison of speeds; imported only where torch is installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from locallearn.quant.network import quantise_pixels
from locallearn.quant.spec import NetworkSpec
from locallearn.reference.backprop import Backprop
from locallearn.reference.local_errors import LocalErrors
from locallearn.reference.rule import Rule

__all__ = ["torch_learners"]

_RULES: list[tuple[str, type[Rule], dict[int, float]]] = [
    ("local", LocalErrors, {1: 0.002, 128: 0.05}),
    ("backprop", Backprop, {1: 0.01, 128: 0.1}),
]
"""Name, class, and a rate for each batch: any that learns, the operations are the same at all of them."""


@contextmanager
def torch_learners(
    spec: NetworkSpec, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Iterator[dict[str, Callable[[int], None]]]:
    """By name, functions that learn from the first n of the samples (pixels (m, inputs), labels (m,)).

    The chip's hidden layers in float32, in eager mode (what is measured is what users write and run; torch.compile
    is not asked), on one thread while the context is open. Samples lie there as tensors, in order: no data loader.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        quantised = quantise_pixels(spec, pixels).astype(np.float32)
        x = torch.from_numpy(np.ldexp(quantised, -spec.input.fraction))
        y = torch.from_numpy(labels)
        sizes = (spec.input.size, *(layer.neurons for layer in spec.layers))

        def learner(rule: Rule, batch: int, rate: float) -> Callable[[int], None]:
            return lambda count: rule.learn(x[:count], y[:count], batch, rate)

        yield {
            f"torch {name}, batch {batch}": learner(make(sizes, spec.classes, spec.training.seed), batch, rate)
            for name, make, rates in _RULES
            for batch, rate in rates.items()
        }
    finally:
        torch.set_num_threads(threads)
