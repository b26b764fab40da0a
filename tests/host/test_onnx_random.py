"""Random models against onnxruntime: what is imported has the model's scores, but for the borders that are noted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from locallearn.host.onnx_import import Scaling
from locallearn.quant.errors import ModelError
from tests.host.onnx_models import BATCH, made, node
from tests.host.test_onnx_import import assert_scores


class Growing:
    """A model in the making: `x` is the last tensor, of this shape."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.opset = int(self.choose([9, 11, 13, 17, 19]))
        channels, rows, columns = (int(self.choose(sides)) for sides in ([1, 3], [4, 6, 8], [4, 5, 6]))
        self.shape: tuple[int, ...] = (channels, rows, columns)
        self.x = "x"

    def choose(self, options: list[Any]) -> Any:
        return options[self.rng.integers(len(options))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> None:
        made_here = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, " ".join(inputs), made_here, **attributes))
        self.x = made_here

    def affine(self) -> None:
        """A scale or an offset, of all numbers or of each channel, of any sign; or none."""
        ahead = [1] * (len(self.shape) - 1)
        by = self.rng.uniform(0.3, 1.5, self.choose([(), (1,), (self.shape[0], *ahead)])).astype(np.float32)
        kind = self.choose(["Add", "Mul", "Sub", "Div", "from", "minus", "normalise", "same", "none"])
        if kind == "from":
            self.add("Sub", self.constant(by), self.x)
        elif kind == "minus":
            self.add("Mul", self.constant(-by), self.x)
        elif kind == "normalise":
            variance = self.constant(self.rng.uniform(0.2, 2, self.shape[0]).astype(np.float32))
            self.add("BatchNormalization", self.x, *(self.normal(self.shape[0]) for _ in range(3)), variance)
        elif kind == "same":
            self.add(self.choose(["Identity", "Dropout"]), self.x)
        elif kind != "none":
            self.add(kind, self.x, self.constant(by))

    def clip(self, low: float, high: float) -> None:
        if self.opset < 11:
            self.add("Clip", self.x, min=low, max=high)
        else:
            self.add("Clip", self.x, *(self.constant(np.float32(end)) for end in (low, high)))

    def relu(self) -> None:
        kinds: list[Callable[[], None]] = [
            lambda: self.add("Relu", self.x),
            lambda: self.add("Relu", self.x),
            lambda: self.clip(0, float(self.choose([0.5, 2, 6]))),
            lambda: (self.clip(-1, 1.5), self.affine(), self.add("Relu", self.x))[-1],
            lambda: (self.add("Relu", self.x), self.clip(-1, 1))[-1],
        ]
        self.choose(kinds)()

    def convolution(self) -> None:
        channels, *sides = self.shape
        if min(sides) < 3:
            return
        kernel, stride = int(self.choose([1, 2, 3, 3])), int(self.choose([1, 1, 2]))
        border = int(self.choose([0, kernel // 2]))
        outputs = int(self.rng.integers(2, 5))
        biases = [self.normal(outputs)] if self.chance(0.7) else []
        kernels = self.normal(outputs, channels, kernel, kernel)
        self.add("Conv", self.x, kernels, *biases, strides=[stride] * 2, pads=[border] * 4)
        self.shape = (outputs, *((side + 2 * border - kernel) // stride + 1 for side in sides))
        self.affine()
        pooled = self.chance(0.5) and min(self.shape[1:]) > 1
        first = self.chance(0.5)
        if not (pooled and first):
            self.relu()
        if pooled:
            if self.chance(0.3):
                self.affine()
            self.add("MaxPool", self.x, kernel_shape=[2, 2], strides=[2, 2])
            self.shape = (outputs, *(side // 2 for side in self.shape[1:]))
            if first:
                if self.chance(0.3):
                    self.affine()
                self.relu()
        if self.chance(0.4):
            self.affine()

    def flat(self) -> None:
        channels, *sides = self.shape
        if self.nodes and sides[0] == sides[1] and self.chance(0.3):
            self.add("AveragePool", self.x, kernel_shape=[2, 2], strides=[2, 2]) if sides[0] % 2 == 0 else None
            sides = [side // 2 if side % 2 == 0 else side for side in sides]
        elif self.nodes and self.chance(0.3):
            self.add("GlobalAveragePool", self.x)
            sides = [1, 1]
        if self.chance(0.3):
            self.affine()
        if self.chance(0.3):
            self.add("Transpose", self.x, perm=[0, 2, 3, 1])
        size = channels * sides[0] * sides[1]
        if self.chance(0.5):
            self.add("Flatten", self.x, axis=1)
        else:
            self.add("Reshape", self.x, self.constant(np.array([self.choose([-1, 0]), size])))
        self.shape = (size,)

    def dense(self, outputs: int) -> None:
        weights = self.rng.normal(size=(self.shape[0], outputs)).astype(np.float32) / np.float32(self.shape[0] ** 0.5)
        kind = self.choose(["MatMul", "Gemm", "transposed"])
        if kind == "MatMul":
            self.add("MatMul", self.x, self.constant(weights))
            self.add("Add", *[self.x, self.normal(outputs)][:: self.choose([1, -1])])
        elif kind == "Gemm":
            self.add("Gemm", self.x, self.constant(weights), self.normal(1, outputs), alpha=-0.5, beta=2.0)
        else:
            self.add("Gemm", self.x, self.constant(weights.T.copy()), self.normal(outputs), transB=1)
        self.shape = (outputs,)

    def model(self) -> onnx.ModelProto:
        shape = (BATCH, *self.shape)
        if self.chance(0.3):
            self.affine()
        for _ in range(self.choose([0, 1, 1, 2])):
            self.convolution()
        self.flat()
        for _ in range(self.choose([0, 1, 1, 2])):
            self.dense(int(self.rng.integers(2, 7)))
            self.affine()
            self.relu()
            if self.chance(0.3):
                self.affine()
        self.dense(3)
        if self.chance(0.3):
            self.affine()
        return made(self.nodes, self.constants, shape, self.x, self.opset)


def compared(seeds: range, folder: Path) -> int:
    """How many models were imported, and had the same scores."""
    count = 0
    for seed in seeds:
        model = Growing(seed).model()
        try:
            network = assert_scores(model, folder, Scaling((0.1,), (0.5,)), noted=True)
        except ModelError:
            continue
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {[each.op_type for each in model.graph.node]}: {error}") from None
        count += not network.notes
    return count


def test_random_models_have_their_scores(tmp_path: Path) -> None:
    assert compared(range(400), tmp_path) > 100


@pytest.mark.slow
def test_many_random_models_have_their_scores(tmp_path: Path) -> None:
    assert compared(range(400, 20_000), tmp_path) > 4_000
