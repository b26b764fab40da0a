"""The comparison of training speeds: what is in it and that it adds up. How fast things are is not tested."""

import json
from typing import Any

import numpy as np
import pytest

from locallearn.host import bench as bench_module
from locallearn.host.bench import bench
from locallearn.host.cli import main
from locallearn.host.connect import connect
from locallearn.host.datasets import load
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, load_spec

DIGITS = load_spec("digits")
RULES = [
    *(f"torch local, batch {batch}" for batch in (1, 128)),
    *(f"torch backprop, batch {batch}" for batch in (1, 16, 128)),
]


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these were not installed and all others were."""
    monkeypatch.setattr(bench_module, "find_spec", lambda name: None if name in packages else object())


def check(report: dict[str, Any], names: list[str]) -> None:
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == names
    for row in rows.values():
        assert 0 < row["min[samples/s]"] <= row["throughput[samples/s]"] <= row["max[samples/s]"]
        assert row["samples_per_round"] >= 1
        if "model" in rows:
            ratio = rows["model"]["throughput[samples/s]"] / row["throughput[samples/s]"]
            assert row["model_ratio"] == pytest.approx(ratio, rel=0.01)
        else:
            assert row["model_ratio"] is None
        assert (row["learned_fraction"] is None) == row["name"].startswith("torch")
        assert (row["cpu[cores]"] is None) == (row["name"] == "sim")
    assert report["versions"]["numpy"] == np.__version__
    assert report["processor"]
    assert report["cores"] >= 1


def test_models(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    report = bench(DIGITS, load("digits"), samples=100, rounds=3, sim=False, seconds=0.02)
    check(report, ["model", "numpy"])
    assert report["not_installed"] == {"torch": "pip install 'locallearn[torch]'"}
    assert (report["spec"], report["data"], report["rounds"]) == ("digits", "digits", 3)
    assert report["neurons"] == [128, 128]
    assert report["warm_up[samples]"] == 100


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "numba", "torch")
    report = bench(DIGITS, load("digits"), samples=20, rounds=1, sim=False, seconds=0.01)
    check(report, ["numpy"])
    assert report["not_installed"]["numba"] == "pip install 'locallearn[fast]'"


def test_the_chip_too_learns_from_the_warmed_up_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    data = load("digits")
    report = bench(DIGITS, data, samples=150, rounds=1)
    check(report, ["model", "numpy", "sim"])
    order = [
        np.random.default_rng([DIGITS.training.seed, epoch]).permutation(len(data.train_x))[:150] for epoch in (0, 1)
    ]
    with connect(DIGITS, "numpy") as device:
        for epoch in order:
            device.clear_counters()
            device.stream(data.train_x[epoch], data.train_y[epoch])
        expected = [layer.learned / 150 for layer in device.counters().layers]
    # The whole pass takes less than a turn, so everyone has the same samples; the rounding noise differs.
    for row in report["rows"]:
        assert row["learned_fraction"] == pytest.approx(expected, abs=0.1)


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without(monkeypatch, "torch")
    assert main(["bench", "--samples", "50", "--rounds", "1", "--no-sim", "--set", "training.seed=4", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    check(report, ["model", "numpy"])
    assert report["seed"] == 4
    assert report["rounds"] == 1
    text = "\n".join(lines)
    assert "torch is not installed: pip install 'locallearn[torch]'" in text
    assert all(title in text for title in ("samples/s", "[%]", "cores"))
    for row in report["rows"]:
        (line,) = [line for line in lines if line.split()[:1] == [row["name"]]]
        assert f"{row['throughput[samples/s]']:.0f}" in line
        assert f"{row['model_ratio']:.2f} x" in line


@pytest.mark.torch
def test_convolutions_in_torch() -> None:
    """The same layers, and classifiers that see the same."""
    from locallearn.host.bench_torch import LayerByLayer, torch_learners

    layers = (ConvSpec(4, pool=2, resolution=2), ConvSpec(6, 2, 2, padding=1, resolution=0), LayerSpec(5))
    spec = NetworkSpec("", 10, InputSpec(64, shape=(1, 8, 8)), layers)
    digits = load("digits")
    with torch_learners(spec, digits.train_x, digits.train_y) as learners:
        assert list(learners) == ["torch local, batch 16", *(f"torch backprop, batch {n}" for n in (1, 16, 128))]
        for learn in learners.values():
            learn(40)
    plan, network = NetworkPlan(spec), LayerByLayer(spec)
    weights = sum(plan.neurons * plan.fan_in + (plan.features + 1) * 10 for plan in plan.layers)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights


@pytest.mark.torch
def test_torch() -> None:
    import torch

    threads = torch.get_num_threads()
    report = bench(DIGITS, load("digits"), samples=200, rounds=1, sim=False, seconds=0.05)
    check(report, ["model", "numpy", *RULES])
    assert report["not_installed"] == {}
    assert report["versions"]["torch"] == torch.__version__
    assert torch.get_num_threads() == threads
