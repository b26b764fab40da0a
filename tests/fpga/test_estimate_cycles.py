"""Estimated cycles against those that the simulated chip counts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from locallearn.fpga.estimate_activity import LayerActivity, counted, dense
from locallearn.fpga.estimate_cycles import estimate_cycles, estimate_layer_cycles
from locallearn.host.datasets import load
from locallearn.host.device import ChipDevice
from locallearn.host.link import Link
from locallearn.host.report import counter_figures
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, load_spec
from locallearn.rtl.linked import LinkedChip
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.sim.design import SIMULATED_LINK_BYTES
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip

DIGITS = load_spec("digits")
CHIPS = [
    pytest.param(DIGITS, GENERIC, id="2 layers"),
    pytest.param(replace(DIGITS, layers=(LayerSpec(30, 30, score_shift=1),)), GENERIC, id="1 group"),
    pytest.param(
        replace(DIGITS, layers=(LayerSpec(20, 3, score_shift=1), LayerSpec(12, 12), LayerSpec(9, 2))),
        SINGLE_PORT,
        id="3 layers, single-port",
    ),
    pytest.param(
        replace(
            DIGITS,
            layers=(
                LayerSpec(40, 10, classifier=ClassifierSpec("learned")),
                LayerSpec(20, 5, classifier=ClassifierSpec(bits=5, feedback="sign-concordant", loss="squared-hinge")),
            ),
        ),
        GENERIC,
        id="learned matrix, hinge",
    ),
    pytest.param(
        replace(
            DIGITS,
            input=InputSpec(64, shape=(1, 8, 8)),
            layers=(
                ConvSpec(8, pool=2, resolution=2, lanes=4, rate_shift=10, classifier=ClassifierSpec("learned")),
                ConvSpec(12, resolution=2, lanes=4, rate_shift=10, classifier=ClassifierSpec("learned")),
                LayerSpec(10, 5),
            ),
            sum_scores=True,
        ),
        GENERIC,
        id="convolutions",
    ),
    pytest.param(
        replace(DIGITS, layers=(LayerSpec(30, 10, 8, classifier=ClassifierSpec(error="label")),)), GENERIC, id="label"
    ),
    pytest.param(
        replace(
            DIGITS,
            layers=(LayerSpec(24, 8, 10, classifier=ClassifierSpec(error="top")), LayerSpec(20, 10), LayerSpec(16, 8)),
        ),
        GENERIC,
        id="top",
    ),
]

SAMPLES = 300


@pytest.fixture
def device(spec: NetworkSpec, target: Target) -> Iterator[ChipDevice]:
    verilog = to_verilog(LinkedChip(spec, target, SIMULATED_LINK_BYTES))
    with SimulatedChip(verilog, optimise=False) as chip, ChipDevice(spec, Link(chip.url)) as device:
        device.reset()
        yield device


@pytest.mark.parametrize(("spec", "target"), CHIPS)
def test_cycles_are_those_of_the_chip(spec: NetworkSpec, target: Target, device: ChipDevice) -> None:
    """Within 2 % where the samples are as was counted, first learned from, then only looked at; within 5 % where
    layers wait for one another."""
    data = load("digits")
    pixels, labels = data.train_x[: 2 * SAMPLES], data.train_y[: 2 * SAMPLES]
    plan = NetworkPlan(spec)
    device.stream(pixels[:SAMPLES], labels[:SAMPLES])
    for learn in (True, False):
        device.clear_counters()
        device.stream(pixels[SAMPLES:], labels[SAMPLES:] if learn else None)
        figures = counter_figures(device.counters())
        cycles = estimate_cycles(plan, counted(plan, {"counters": figures}, "sim"), target.single_port_weights)
        expected = figures["cycles"] / SAMPLES
        waits = learn and cycles.round_trip
        assert (cycles.train if learn else cycles.infer) == pytest.approx(expected, rel=0.05 if waits else 0.02)


def test_without_zeros_a_walk_reads_all_rows() -> None:
    plan = NetworkPlan(load_spec("mnist-small"))
    cycles = estimate_cycles(plan, dense(plan), single_port=False)
    assert cycles.infer == plan.dense_cycles + 1


def test_a_single_port_takes_each_learned_row_twice() -> None:
    plan = NetworkPlan(load_spec("mnist-small")).layers[0]
    activity = LayerActivity(events=100, learned=1, rows=1, met=100)
    one, two = (estimate_layer_cycles(plan, activity, single_port) for single_port in (True, False))
    assert one.infer == two.infer
    assert one.train - two.train == pytest.approx(plan.groups * 100, abs=plan.groups)


def test_groups_without_an_error_are_passed_over() -> None:
    plan = NetworkPlan(load_spec("mnist-small")).layers[0]
    all_rows, some_rows, none = (
        estimate_layer_cycles(plan, LayerActivity(events=100, learned=share, rows=rows, met=100), False)
        for share, rows in ((0.5, 1.0), (0.5, 0.1), (0.0, 1.0))
    )
    assert none.learning == 0
    assert 0 < some_rows.learning < all_rows.learning / 2
    assert all_rows.train == all_rows.learning + none.train


def test_a_chip_is_as_fast_as_its_slowest_part() -> None:
    plan = NetworkPlan(DIGITS)
    activity = dense(plan)
    cycles = estimate_cycles(plan, activity, single_port=False)
    assert cycles.train == max(layer.train for layer in cycles.layers)
    slow_link = estimate_cycles(plan, replace(activity, bytes=1e6), single_port=False)
    assert slow_link.train == slow_link.infer == 260 / 255 * 1e6 + 1
