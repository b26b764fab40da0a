"""Averages over cells against the golden model's."""

import math
import random
from itertools import product
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.conv import average
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.spec import ConvSpec, InputSpec, NetworkSpec
from locallearn.rtl.features import FeatureUnit
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.pool import pooled_layout
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import pack, unpack
from tests.compare import assert_same
from tests.rtl.conftest import Bench


@cocotb.test()
async def averages_cells(dut: Any) -> None:
    """Empty maps, full ones and some between; of ones alone too, whose averages are 0. Now and then a pause."""
    plan = parameters()
    await start(dut)
    rng = np.random.default_rng(random.getrandbits(32))
    for largest, share in product((1, plan.output_format.max), (0, 0.1, 1)):
        activations = rng.integers(0, largest, plan.outputs, endpoint=True)
        activations[rng.random(plan.outputs) >= share] = 0
        await give(dut, plan, activations)
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        begun, shown = cycle(), []
        while len(shown) < plan.features:
            await RisingEdge(dut.clk)
            if dut.valid.value:
                shown.append(unpack(activation_layout(plan), int(dut.o.value)))
            assert cycle() - begun < plan.features + 10, (
                f"cycle {cycle()}: expected {plan.features}, actual {len(shown)}"
            )
        sums = activations.reshape(plan.output_map)
        (rows, columns, channels), (down, across) = plan.feature_map, plan.cell
        active = sums.reshape(rows, down, columns, across, channels).any(axis=(1, 3)).ravel()
        for name, expected in {
            "index": np.arange(plan.features),
            "value": average(plan, activations),
            "active": active,
            "first": np.arange(plan.features) == 0,
            "last": np.arange(plan.features) == plan.features - 1,
        }.items():
            assert_same(f"cycle {cycle()}: {name}", expected.astype(int), [one[name] for one in shown])


async def give(dut: Any, plan: ConvPlan, activations: Any) -> None:
    """In order, those of one channel at least four cycles apart."""
    channels = plan.output_map[2]
    for pixel in range(0, plan.outputs, channels):
        row, column = divmod(pixel // channels, plan.output_map[1])
        for channel in range(channels):
            fields = dict.fromkeys([key for key, _ in pooled_layout(plan)], 0)
            fields |= {"row": row, "column": column, "channel": channel, "value": int(activations[pixel + channel])}
            dut.pooled.value, dut.take.value = pack(pooled_layout(plan), fields), 1
            await RisingEdge(dut.clk)
            dut.take.value = 0
            for _ in range(random.choice((0, 0, 0, 2))):
                await RisingEdge(dut.clk)
        for _ in range(4 - min(channels, 4)):
            await RisingEdge(dut.clk)


def plan_of(rows: int, columns: int, channels: int, resolution: int) -> ConvPlan:
    spec = ConvSpec(channels, 1, resolution=resolution)
    return ConvPlan(NetworkSpec("", 3, InputSpec(rows * columns, shape=(1, rows, columns)), (spec,)), 0)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(plan_of(4, 8, 5, 2), id="cells of 2x4"),
        pytest.param(plan_of(6, 9, 3, 3), id="cells of 2x3"),
        pytest.param(plan_of(3, 2, 1, 0), id="all pixels, a single channel"),
        pytest.param(plan_of(4, 4, 6, 1), id="one cell"),
    ],
)
def test_features(bench: Bench, plan: ConvPlan) -> None:
    assert math.prod(plan.feature_map) == plan.features
    bench(FeatureUnit(plan, GENERIC), plan)
