"""`locallearn traffic`: the paper's table, and the chip's counters beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from locallearn.fpga.estimate_activity import counted, expected
from locallearn.host.cli import main
from locallearn.host.traffic import Traffic, paper_traffic, traffic_rows
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec

THREE_LAYERS = NetworkSpec("", 10, InputSpec(784), (LayerSpec(1000, 8), LayerSpec(1000, 3), LayerSpec(1000, 1)))
TINY = NetworkSpec("", 2, InputSpec(3), (LayerSpec(4, 2), LayerSpec(5, 2)))


def test_the_papers_table() -> None:
    """Its own example: 785,000 parameters and twice 1,001,000, an output layer of 10,010; 3,000 activations."""
    backprop, local = paper_traffic(NetworkPlan(THREE_LAYERS), batch=100)
    assert (backprop.reads * 100, backprop.writes * 100) == (2 * 2_797_010 + 300_000, 2_797_010 + 300_000)
    assert (local.reads * 100, local.writes * 100) == (2_787_000, 2_787_000)
    assert backprop.operations == 3 * (784_000 + 2 * 1_000_000 + 10_000)
    assert local.operations == 2 * (784_000 + 2 * 1_000_000) + 2 * 10 * 3000


def test_chip_by_hand() -> None:
    """Two lanes for five neurons are three groups, of which one half is idle."""
    counters = {
        "samples": 10,
        "cycles": 1000,
        "layers": [
            # 25 events in 2 groups; 4 samples learned from, of the 20 rows that their events name 15.
            {"events": 25, "words_read": 65, "words_written": 15, "learned": 4, "discarded": 7},
            {"events": 30, "words_read": 90, "words_written": 0, "learned": 0, "discarded": 0},
        ],
    }
    plan = NetworkPlan(TINY)
    rows = traffic_rows(plan, counted(plan, {"counters": counters}, ""), 1, counters)
    assert [name for name in rows if name.startswith("chip")] == list(rows)[2:]
    nothing, zeros, learning, in_vain = list(rows.values())[2:]
    dense = (4 * 2 + 5 * 3) * 2
    assert nothing == Traffic(2 * dense, dense, 2 * dense + 2 * (2 * 9))
    per_sample = 2 * (2.5 * 2 + 3 * 3)
    assert zeros == Traffic(2 * per_sample, per_sample, 2 * per_sample + 2 * (2 * 9))
    assert learning.reads == pytest.approx(2 * (65 + 90) / 10)
    assert learning.writes == pytest.approx(2 * 15 / 10)
    assert learning.operations == pytest.approx(2 * (65 + 90) / 10 + 2 * (4 * 1.4 + 5))
    assert in_vain == replace(learning, reads=learning.reads + 1.4, operations=learning.operations + 1.4)
    assert list(traffic_rows(plan, expected(plan), 1, None)) == list(rows)[:-1]


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the model counted is what the table has."""
    run = tmp_path / "run"
    assert main(["train", "--device", "numpy", "--limit", "30", "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["traffic", "digits", "--activity", str(run), "--batch", "16", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert list(rows)[:2] == ["backpropagation, batch 16", "local errors, batch 16"]
    counters = json.loads((run / "report.json").read_text())["counters"]
    counts = [sum(layer[name] for layer in counters["layers"]) for name in ("words_read", "words_written")]
    measured = rows["chip, and learning without error"]
    lanes, samples = 16, 30
    assert [measured["reads"], measured["writes"]] == pytest.approx([count * lanes / samples for count in counts])
    (line,) = [line for line in lines if line.strip().startswith("chip, and learning without error")]
    assert f"{measured['reads']:,.0f}" in line
