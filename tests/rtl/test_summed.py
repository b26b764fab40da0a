"""The class with the largest sum of two layers' scores, the upper layer late or not."""

import random
from collections import deque
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import LayerSpec
from locallearn.rtl.summed import Summed, walk_layout
from locallearn.rtl.target import GENERIC
from locallearn.rtl.timing import SCORE
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import pack
from tests.rtl.conftest import Bench
from tests.rtl.layer_bench import network

AHEAD = 10
"""Samples that the layer below can be ahead by: those of an event buffer and one more, here and there."""


def any_scores(plan: LayerPlan) -> list[int]:
    """Often equal ones."""
    low = -plan.score_max if plan.signed_scores else 0
    few = random.randint(low, plan.score_max), random.randint(low, plan.score_max)
    return [random.choice((*few, low, plan.score_max)) for _ in range(plan.classes)]


@cocotb.test()
async def adds_scores(dut: Any) -> None:
    """Walks below and above at any distance, up to the largest; some samples stop below."""
    below, plan = parameters()
    await start(dut)
    waiting: deque[list[int]] = deque()
    most = 0
    for number in range(120):
        # The layer above is far too slow for a while, and then fast.
        hurry = 0.1 if number % 60 < 35 else 0.9
        if len(waiting) < AHEAD and random.random() < 0.6:
            scores, passes = any_scores(below), random.random() < 0.8
            for when in range(SCORE + plan.classes + random.randrange(1, 4)):
                score = scores[when - SCORE] if SCORE <= when < SCORE + plan.classes else any_scores(below)[0]
                dut.below.value = pack(walk_layout(below), {"start": when == 0, "score": score, "passes": 0})
                await RisingEdge(dut.clk)
            dut.below.value = pack(walk_layout(below), {"start": 0, "score": 0, "passes": passes})
            await RisingEdge(dut.clk)
            dut.below.value = 0
            if passes:
                waiting.append(scores)
        for _ in range(3):
            await RisingEdge(dut.clk)
        assert bool(dut.ready.value) == bool(waiting), f"cycle {cycle()}: ready with {len(waiting)} samples waiting"
        most = max(most, len(waiting))
        if waiting and random.random() < hurry:
            scores = any_scores(plan)
            for when in range(plan.classes + 4):
                dut.start.value = when == 0
                score = scores[when - SCORE] if SCORE <= when < SCORE + plan.classes else any_scores(plan)[0]
                dut.score.value = score
                await RisingEdge(dut.clk)
            await RisingEdge(dut.clk)
            sums = classifier.summed(plan, np.array(scores), below, np.array(waiting.popleft()))
            expected, actual = classifier.classify(sums), int(dut.predicted.value)
            assert actual == expected, f"cycle {cycle()}, sums {sums}: expected class {expected}, actual {actual}"
    assert most == AHEAD, f"at most {most} samples waited"


LEARNED = ClassifierSpec("learned", rate_shift=4)


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param((LayerSpec(4), LayerSpec(9)), id="unsigned"),
        pytest.param((LayerSpec(8, classifier=LEARNED), LayerSpec(3, score_shift=1)), id="signed and unsigned"),
        pytest.param((LayerSpec(8, score_shift=5, classifier=LEARNED), LayerSpec(3, classifier=LEARNED)), id="signed"),
    ],
)
def test_summed(bench: Bench, layers: tuple[LayerSpec, ...]) -> None:
    below, plan = NetworkPlan(network(*layers, classes=5, sum_scores=True)).layers
    bench(Summed(plan, below, GENERIC), (below, plan))
