"""What samples are taken to be: counted, expected, as bad as can be."""

from typing import Any

import numpy as np
import pytest

from locallearn.fpga.estimate_activity import LayerActivity, counted, dense, expected
from locallearn.host.datasets import load
from locallearn.quant.errors import RunError
from locallearn.quant.network import quantise_pixels
from locallearn.quant.packets import encode_samples
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, load_spec

DIGITS = NetworkPlan(load_spec("digits"))


def report(**changes: Any) -> dict[str, Any]:
    """Of a run: in layer 0 half of the samples were learned from, in layer 1 none."""
    layers = [
        {"events": 3000, "learned": 50, "words_written": 6000},
        {"events": 2000, "learned": 0, "words_written": 0},
    ]
    return {"counters": {"samples": 100, "layers": layers} | changes}


def test_counted() -> None:
    activity = counted(DIGITS, report(), "runs/digits")
    groups = DIGITS.layers[0].groups
    assert activity.layers == (LayerActivity(30, 0.5, 60 / (30 * groups * 0.5), 30), LayerActivity(20, 0, 1, 20))
    assert activity.source == "runs/digits"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"counters": None}, "runs/x: its report has no counters of a finished epoch"),
        ({}, "runs/x: its report has no counters of a finished epoch"),
        (report(layers=[]), "runs/x: counters of 0 layers, the network has 2"),
    ],
)
def test_reports_that_say_nothing(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as error:
        counted(DIGITS, given, "runs/x")
    assert str(error.value) == message


def test_the_packets_of_digits_are_as_long_as_expected() -> None:
    pixels = quantise_pixels(DIGITS.spec, load("digits").train_x)
    packets, _ = encode_samples(pixels, None)
    activity = expected(DIGITS)
    assert activity.bytes == pytest.approx(len(packets) / len(pixels), rel=0.01)
    assert activity.layers[0].events == pytest.approx(1 + np.count_nonzero(pixels) / len(pixels), rel=0.01)


def test_dense_is_the_longest_packet_and_every_row() -> None:
    activity = dense(DIGITS)
    assert activity.bytes == 2 + 64
    assert [layer.events for layer in activity.layers] == [65, 129]
    assert all(layer.learned == layer.rows == 1 for layer in activity.layers)


def test_inputs_that_nobody_has_counted_are_taken_as_dense() -> None:
    plan = NetworkPlan(NetworkSpec("colours", 10, InputSpec(3000), (LayerSpec(64, 4), LayerSpec(32), LayerSpec(16))))
    activity = expected(plan)
    assert activity.layers[0].events == 3001
    assert activity.bytes == 2 + 3000
    assert 1 < activity.layers[1].events < 64
    # Layers behind those that were counted learn as these do.
    assert activity.layers[1].learned == activity.layers[2].learned
    # The more lanes, the seldomer none of a group has an error.
    assert activity.layers[0].rows > activity.layers[1].rows
