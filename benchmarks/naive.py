"""Training samples/s of the three software models on the same samples, from the same weights, on one core.

python benchmarks/naive.py DIR      DIR holds MNIST in DIR/mnist
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from locallearn.host.datasets import load
from locallearn.quant.fast import FastNetwork
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.spec import load_spec
from tests.naive import NaiveNetwork

WARM_UP = 10_000
ROUNDS = 3


def samples_per_second(run: Callable[[slice], object], count: int) -> float:
    """The best of some rounds of `count` samples each."""
    best = 0.0
    for number in range(ROUNDS):
        start = time.perf_counter()
        run(slice(WARM_UP + number * count, WARM_UP + (number + 1) * count))
        best = max(best, count / (time.perf_counter() - start))
    return best


def main() -> None:
    spec, data = load_spec("mnist"), load("mnist", Path(sys.argv[1]))
    x, y = data.train_x, data.train_y
    fast, numpy, naive = FastNetwork(spec), GoldenNetwork(spec), NaiveNetwork(spec)
    # A beginner learns from every sample; what counts is later, when most of them are right.
    fast.run(x[:WARM_UP], y[:WARM_UP])
    numpy.weights = fast.weights
    for layer, weights in zip(naive.layers, fast.weights, strict=True):
        layer.weights = weights.tolist()

    def run_naive(part: slice) -> None:
        for sample, label in zip(x[part], y[part], strict=True):
            naive.step(sample.tolist(), int(label))

    speeds = {
        "naive (plain Python, tests/naive.py)": samples_per_second(run_naive, 20),
        "NumPy (quant/network.py)": samples_per_second(lambda part: numpy.run(x[part], y[part]), 2_000),
        "compiled (quant/fast.py)": samples_per_second(lambda part: fast.run(x[part], y[part]), 15_000),
    }
    print("| model | training samples/s | times naive |\n| --- | --- | --- |")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.1f} | {speed / next(iter(speeds.values())):,.1f} |")


if __name__ == "__main__":
    main()
