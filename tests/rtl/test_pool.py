"""Max pooling against the golden model's."""

import math
import random
from typing import Any

import cocotb
import numpy as np
import pytest

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.spec import ConvSpec, InputSpec, NetworkSpec
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.pool import PoolUnit, pooled_layout
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench


@cocotb.test()
@cocotb.parametrize(idle=IDLE, stall=STALLS)
async def gives_the_largest(dut: Any, idle: str, stall: str) -> None:
    """Few values, so that many are equal."""
    plan = parameters()
    await start(dut)
    source = Source(dut, "i", activation_layout(plan), pace(idle, random.getrandbits(32)))
    sink = Sink(dut, "o", pooled_layout(plan), pace(stall, random.getrandbits(32)))
    rows, columns, channels = plan.output_map
    rng = np.random.default_rng(random.getrandbits(32))
    for _ in range(2):
        activations = rng.choice([0, 0, 1, 2, plan.output_format.max], (rows * columns, plan.conv.pool**2, channels))
        expected = []
        for pixel, places in enumerate(activations):
            for group in range(plan.groups):
                of_group = range(group * plan.lanes, min((group + 1) * plan.lanes, channels))
                for values in places:
                    # Lanes without a channel say anything.
                    padded = [*values[of_group.start : of_group.stop].tolist(), *[7] * plan.lanes][: plan.lanes]
                    source.send(
                        [
                            {"index": lane, "value": value, "active": int(value > 0), "first": 0, "last": 0}
                            for lane, value in enumerate(padded)
                        ]
                    )
                for channel in of_group:
                    value = int(places[:, channel].max())
                    index = pixel * channels + channel
                    expected.append(
                        {
                            "index": index,
                            "row": pixel // columns,
                            "column": pixel % columns,
                            "channel": channel,
                            "group": group,
                            "lane": channel % plan.lanes,
                            "value": value,
                            "winner": int(places[:, channel].argmax()),
                            "active": int(value > 0),
                            "ends": int(channel == of_group[-1]),
                            "last": int(index == plan.outputs - 1),
                        }
                    )
        await sink.expect(expected)


def plan_of(shape: tuple[int, int, int], channels: int, lanes: int, pool: int) -> ConvPlan:
    spec = ConvSpec(channels, 1, pool=pool, resolution=0, lanes=lanes)
    return ConvPlan(NetworkSpec("", 3, InputSpec(math.prod(shape), shape=shape), (spec,)), 0)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(plan_of((1, 4, 6), 5, 2, pool=2), id="3 groups"),
        pytest.param(plan_of((1, 2, 3), 4, 3, pool=1), id="no pool"),
        pytest.param(plan_of((1, 5, 2), 3, 3, pool=2), id="1 group, odd rows"),
    ],
)
def test_pool(bench: Bench, plan: ConvPlan) -> None:
    bench(PoolUnit(plan, GENERIC), plan)
