"""`locallearn reference`: what a study runs, that it goes on where it was, and what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locallearn.host.augment import augment
from locallearn.host.cli import main
from locallearn.host.datasets import epoch_order, load
from locallearn.quant.spec import load_spec

ALL = [
    *("local", "local-signs", "local-sign-concordant", "local-random", "local-trainable", "local-hinge"),
    *("backprop", "feedback-alignment", "dfa", "drtp"),
]
SHORT = ["reference", "--seeds", "2", "--epochs", "2", "--limit", "300", "--json"]
SMALL = [*SHORT, "--layers", "12", "10"]

NETWORK = """
name = "tiny"
classes = 11
input = { shape = [1, 8, 8], signed = true, fraction = 7 }
layers = [{ channels = 4, pool = 2, resolution = 2 }, { channels = 6, stride = 2, resolution = 1 }, { neurons = 9 }]
training = { augment = { shift = 1, flip = true, drop = 0.25 } }
"""
"""4 x 4 pixels behind the first layer, 2 x 2 behind the second."""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(NETWORK)
    return file


def reference(
    capsys: pytest.CaptureFixture[str], out: Path, *options: str, command: list[str] = SMALL
) -> tuple[dict[str, Any], str]:
    """The summary, and the lines before it."""
    assert main([*command, "--out", str(out), *options]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return json.loads(last), "\n".join(lines)


def runs(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


@pytest.mark.torch
def test_all_rules(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, text = reference(capsys, tmp_path)
    assert [row["rule"] for row in summary["rows"]] == ALL
    done = runs(tmp_path)
    assert [(run["rule"], run["seed"]) for run in done] == [(rule, seed) for rule in ALL for seed in (1, 2)]
    for row in summary["rows"]:
        accuracies = [run["test_accuracy[%]"] for run in done if run["rule"] == row["rule"]]
        assert len(row["mean_accuracy[%]"]) == (2 if row["rule"].startswith("local") else 1)
        for number, mean in enumerate(row["mean_accuracy[%]"]):
            first, second = (accuracy[number] for accuracy in accuracies)
            assert mean == pytest.approx((first + second) / 2, abs=0.001)
            assert row["deviation[%]"][number] == pytest.approx(abs(first - second) / 2**0.5, abs=0.001)
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [row["rule"]] and "±" in line]
            assert f"{mean:.2f} ± " in line


@pytest.mark.torch
def test_runs_are_made_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is there is not run again, and what comes later is what would have come at once."""
    rules = ("--rules", "local", "dfa")
    whole, _ = reference(capsys, tmp_path / "whole", *rules)
    parts = tmp_path / "parts"
    reference(capsys, parts, "--rules", "local")
    # As if it had been killed while the second was written down.
    (parts / "runs.jsonl").write_text((parts / "runs.jsonl").read_text()[:-20])
    assert reference(capsys, parts, *rules)[0] == whole
    assert [(run["rule"], run["seed"]) for run in runs(parts)] == [("local", 1), ("local", 2), ("dfa", 1), ("dfa", 2)]


@pytest.mark.torch
def test_one_seed_has_no_deviation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, text = reference(capsys, tmp_path, "--rules", "dfa", "--seeds", "1")
    (row,) = summary["rows"]
    assert row["deviation[%]"] is None
    assert text.splitlines()[-3].split() == ["dfa", "1", f"{row['mean_accuracy[%]'][0]:.2f}"]
    assert "±" not in text


@pytest.mark.torch
def test_no_room_for_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr("locallearn.host.references._read", lambda file: {})  # which would never end
    assert main([*SMALL, "--out", str(tmp_path), "--rules", "dfa"]) == 7
    expected = f"locallearn: {tmp_path / 'runs.jsonl'}: cannot be written: No space left on device\n"
    assert capsys.readouterr().err == expected


@pytest.mark.torch
def test_convolutions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary, _ = reference(capsys, tmp_path, "--layers", "conv4", "conv6", "20", "--rules", "local", "backprop")
    assert [len(row["mean_accuracy[%]"]) for row in summary["rows"]] == [3, 1]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rules", "magic"], 3, "magic: no such rule; there is local, local-signs, "),
        (["--layers", "conv"], 3, "conv: no layer; 128 is a dense one, conv32 a convolution with 32 channels"),
        (["--layers", "8", "conv4"], 3, "convolutions must be the first layers: a dense layer leaves no rows and"),
        (
            ["--layers", *["conv4"] * 4],
            4,
            "digits has samples of 8 x 8: of their rows and columns nothing is left behind",
        ),
        (["--validation", "9999"], 4, "digits has 1438 training samples, 9999 cannot be held out"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    assert main([*SMALL, "--out", str(tmp_path / "out"), *options]) == code
    assert capsys.readouterr().err.startswith(f"locallearn: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_another_study_in_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reference(capsys, tmp_path, "--rules", "local")
    for option, there, value in (("epochs", 2, 3), ("rate", 0.003, 0.01)):
        assert main([*SMALL, "--out", str(tmp_path), f"--{option}", str(value)]) == 7
        expected = f"locallearn: {tmp_path} has runs with {option} = {there}, not {value}: name another --out\n"
        assert capsys.readouterr().err == expected
    (tmp_path / "runs.jsonl").write_text("{\n")
    assert main([*SMALL, "--out", str(tmp_path)]) == 7
    assert capsys.readouterr().err == f"locallearn: {tmp_path / 'runs.jsonl'}: damaged: {{\n"


@pytest.mark.torch
def test_a_network_for_the_chip(capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path) -> None:
    out = tmp_path / "out"
    options = ("--network", str(network), "--rules", "local-trainable", "backprop")
    summary, _ = reference(capsys, out, *options, command=SHORT)
    assert [len(row["mean_accuracy[%]"]) for row in summary["rows"]] == [3, 1]
    settings = json.loads((out / "settings.json").read_text())
    assert settings == summary["study"]
    assert settings["hidden"] == [
        "conv4 kernel 3 stride 1 padding 1 pool 2 resolution 2",
        "conv6 kernel 3 stride 2 padding 1 pool 1 resolution 1",
        "9",
    ]
    assert (settings["network"], settings["classes"], settings["signed"]) == ("tiny", 11, True)
    assert settings["augment"] == {"shift": 1, "flip": True, "cutout": 0, "drop": 0.25}


@pytest.mark.torch
@pytest.mark.parametrize("signed", [True, False])
def test_images_are_those_of_the_chip(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    """In its order, augmented as for it; only pixels of all their bits from -1 or 0 to 1."""
    from torch import Tensor
    from torch.optim import Optimizer

    from locallearn.reference.rule import Rule

    seen: list[tuple[Tensor, Tensor]] = []
    learn = Rule.learn

    def watched(rule: Rule, x: Tensor, labels: Tensor, batch: int, optimiser: Optimizer) -> None:
        assert rule.classes == 11  # though digits have 10
        seen.append((x, labels))
        learn(rule, x, labels, batch, optimiser)

    monkeypatch.setattr(Rule, "learn", watched)
    if not signed:
        network.write_text(NETWORK.replace("signed = true, ", ""))
    options = ("--network", str(network), "--rules", "dfa", "--seeds", "1", "--batch", "10")
    reference(capsys, tmp_path / "out", *options, command=SHORT)

    data, spec = load("digits"), load_spec(network)
    images, labels = [], []
    for epoch in range(2):
        order = epoch_order(1, epoch, len(data.train_x), 300)
        chance = np.random.default_rng([1, epoch, 1])
        images.append(augment(data.train_x[order], (8, 8), spec.training.augment, chance, spec.input.zero))
        labels.append(data.train_y[order])
    pixels = np.concatenate(images).astype(np.float64)
    expected = (pixels - 128) / 128 if signed else pixels / 255
    # 20 batches at once: 200 samples, and what is left of 300.
    assert [x.shape for x, _ in seen] == [(n, 1, 8, 8) for n in (200, 100) * 2]
    np.testing.assert_allclose(np.concatenate([x.numpy() for x, _ in seen]).reshape(600, 64), expected, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in seen]), np.concatenate(labels))


@pytest.mark.torch
def test_folders_are_named_after_data_and_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (["--network", str(network)], ["--layers", "conv4", "9"]):
        assert main([*SHORT, "--rules", "dfa", *options]) == 0
    assert {folder.name for folder in (tmp_path / "references").iterdir()} == {"digits-tiny", "digits-conv4-9"}


@pytest.mark.torch
def test_folders_from_before_there_were_networks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path
) -> None:
    out = tmp_path / "out"
    first, _ = reference(capsys, out, "--rules", "dfa")
    file = out / "settings.json"
    known = ("data", "held_out", "limit", "hidden", "epochs", "batch", "rate")
    old = {key: value for key, value in json.loads(file.read_text()).items() if key in known}
    file.write_text(json.dumps(old))
    assert reference(capsys, out, "--rules", "dfa")[0] == first
    assert json.loads(file.read_text()) == old
    # The same layers, by a description.
    network.write_text(
        'name = "same"\nclasses = 10\ninput = { size = 64 }\nlayers = [{ neurons = 12 }, { neurons = 10 }]'
    )
    assert main([*SHORT, "--network", str(network), "--out", str(out), "--rules", "dfa"]) == 7
    assert capsys.readouterr().err == f"locallearn: {out} has runs with network = None, not same: name another --out\n"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("old", "new", "there", "value"),
    [
        ("signed = true", "signed = false", "signed = True", "False"),
        ("classes = 11", "classes = 10", "classes = 11", "10"),
        ("flip = true, ", "", "augment = {'shift': 1, 'flip': True, ", "{'shift': 1, 'flip': False, "),
        ("stride = 2", "stride = 1", "hidden = ['conv4 kernel 3 ", "['conv4 kernel 3 "),
    ],
)
def test_another_network_of_that_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path, old: str, new: str, there: str, value: str
) -> None:
    command = [*SHORT, "--network", str(network), "--out", str(tmp_path / "out"), "--rules", "dfa"]
    assert main(command) == 0
    network.write_text(NETWORK.replace(old, new))
    assert main(command) == 7
    error = capsys.readouterr().err
    assert error.startswith(f"locallearn: {tmp_path / 'out'} has runs with {there}")
    assert f", not {value}" in error


@pytest.mark.torch
@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("[1, 8, 8]", "[1, 4, 16]", 4, "digits has images of 8x8, the network takes 1x4x16 (channels, rows, columns)"),
        ("[1, 8, 8]", "[3, 8, 8]", 4, "digits has images of 64 (8x8), the network takes 192: needed is a network with"),
        ("classes = 11", "classes = 9", 4, "digits: training sample "),
        ("shift = 1", "shift = 9", 4, "training.augment.shift = 9: at most 8 is possible with images of 8x8"),
        ("neurons = 9", "neurons = 9, dropout = 0.5", 3, "layers[2].dropout = 0.5: the references have none, leave it"),
    ],
)
def test_networks_that_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path, old: str, new: str, code: int, message: str
) -> None:
    network.write_text(NETWORK.replace(old, new))
    assert main([*SHORT, "--network", str(network), "--out", str(tmp_path / "out")]) == code
    assert capsys.readouterr().err.startswith(f"locallearn: {message}")
    assert not (tmp_path / "out").exists()


def test_layers_or_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reference", "--layers", "64", "--network", "digits"])
    assert "argument --network: not allowed with argument --layers" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1", "much", "inf"])
def test_rates(capsys: pytest.CaptureFixture[str], rate: str) -> None:
    with pytest.raises(SystemExit):
        main(["reference", "--rate", rate])
    assert f"argument --rate: {rate}: needed is a number above 0" in capsys.readouterr().err


def test_without_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith(("locallearn.reference", "locallearn.host.ref"))]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["reference"]) == 5
    assert capsys.readouterr().err == "locallearn: reference needs PyTorch: pip install 'locallearn[torch]'\n"
