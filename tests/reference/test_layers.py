"""A convolution forth and back against autograd, whatever its window, its pool and its cells."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from locallearn.reference.layers import Conv, ConvLayer

pytestmark = pytest.mark.torch

SHAPE = (2, 11, 8)


def random(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("padding", [None, 0, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_convolutions(kernel: int, stride: int, padding: int | None, pool: int) -> None:
    spec = Conv(4, kernel, stride, padding, pool)
    layer = ConvLayer(SHAPE, spec, torch.Generator().manual_seed(3))
    layer.bias = random(layer.bias.shape)
    x = random(torch.Size((3, *SHAPE)))

    inputs = [tensor.clone().requires_grad_() for tensor in (x, layer.weight, layer.bias)]
    z = functional.conv2d(*inputs, stride=stride, padding=kernel // 2 if padding is None else padding)
    y = functional.max_pool2d(z.relu(), pool)
    error = random(y.shape)
    expected = torch.autograd.grad(y, inputs, error)

    passed = layer.forward(x)
    at_z = layer.through_activation(passed, error)
    actual = [layer.to_input(passed, at_z, layer.weight), *layer.gradients(passed, at_z)]
    assert layer.outputs == y.shape[1:] == (4, *spec.output(*SHAPE[1:]))
    torch.testing.assert_close(passed.y, y)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resolution", [0, 1, 2, 4])
def test_cells(resolution: int) -> None:
    """12 x 8 pixels: cells of 1 x 1, 12 x 8, 6 x 4, 3 x 2."""
    layer = ConvLayer((2, 12, 8), Conv(4, 3, pool=1, resolution=resolution), torch.Generator())
    y = random(torch.Size((3, 4, 12, 8))).requires_grad_()
    cells = functional.adaptive_avg_pool2d(y, resolution) if resolution else y
    assert layer.features == math.prod(cells.shape[1:])
    torch.testing.assert_close(layer.see(y), cells.flatten(1))
    error = random(cells.shape)
    (expected,) = torch.autograd.grad(cells, y, error)
    torch.testing.assert_close(layer.from_seen(error.flatten(1)), expected)
