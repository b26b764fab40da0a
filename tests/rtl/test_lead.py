"""The lead against the golden one."""

import random
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.spec import LayerSpec
from locallearn.rtl.lead import Lead
from locallearn.rtl.timing import SCORE
from locallearn.sim.bench import cycle, parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer
from tests.rtl.test_error import any_scores


async def is_enough(dut: Any, scores: list[int], least: int) -> bool:
    """One walk over the scores; there is anything on the port before and after."""
    dut.least.value = least
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    for number in range(1, len(scores) + 5):
        walked = number - SCORE
        dut.score.value = scores[walked] if 0 <= walked < len(scores) else random.choice(scores)
        await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    return bool(dut.enough.value)


@cocotb.test()
async def says_whether_the_lead_is_enough(dut: Any) -> None:
    """At the lead itself, one above it, at the ends of what can be asked for, and at any."""
    plan = parameters()
    await start(dut)
    said = set()
    for _ in range(200):
        scores = any_scores(plan)
        lead = classifier.lead(np.array(scores))
        for least in (lead, lead + 1, 0, plan.no_exit, random.randint(0, plan.no_exit)):
            actual = await is_enough(dut, scores, least)
            assert actual == (lead >= least), (
                f"cycle {cycle()}, scores {scores}, least {least}: expected {lead >= least}, actual {actual}"
            )
            said.add(actual)
    assert said == {False, True}


@pytest.mark.parametrize(
    ("classes", "kind"),
    [
        pytest.param(2, ClassifierSpec(), id="2 classes"),
        pytest.param(100, ClassifierSpec(), id="100 classes"),
        pytest.param(10, ClassifierSpec(loss="squared-hinge"), id="signed scores"),
        pytest.param(3, ClassifierSpec("learned"), id="learned"),
    ],
)
def test_lead(bench: Bench, classes: int, kind: ClassifierSpec) -> None:
    plan = layer(layers=(LayerSpec(20, classifier=kind), LayerSpec(5)), classes=classes)
    plan = LayerPlan(replace(plan.spec, early_exit=True), 0)
    bench(Lead(plan), plan)
