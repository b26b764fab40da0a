"""The command line as its users meet it: outcomes, JSON, one-line errors with their exit codes."""

import gzip
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.cli import main
from locallearn.host.datasets import load
from locallearn.host.exits import ExitPoint, best_point
from locallearn.host.run import Run
from locallearn.host.terminal import Terminal
from locallearn.quant.errors import ToolError
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import load_spec, preset_names


def succeed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([*map(str, arguments)])
    err = capsys.readouterr().err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("locallearn: ")
    return code, lines[0]


# -- what works ----------------------------------------------------------------------------------------------------


def test_train_on_the_simulated_chip_and_evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = succeed(capsys, "train", "--epochs", 1, "--limit", 300, "--out", run)
    assert report["device"] == "sim"
    assert report["weights_equal_golden"] is True
    assert report["epochs"] == 1
    assert len(report["test_accuracy[%]"]) == 2
    assert report["cycles_per_sample"] >= report["event_bound_cycles"] > 0
    assert report["throughput[samples/s]"] > 0
    assert report["counters"]["link_errors"] == 0
    assert report["counters"]["cycles"] == pytest.approx(300 * report["cycles_per_sample"], abs=2)
    for layer, plan in zip(report["counters"]["layers"], NetworkPlan(load_spec("digits")).layers, strict=True):
        read = layer["events"] * plan.groups + layer["words_written"]
        assert layer["words_read"] == read
        # Every cycle either reads a row or is accounted for.
        busy = layer["words_read"] + layer["discarded"] + layer["starved"] + layer["waiting"]
        assert busy == report["counters"]["cycles"]
    # Model and chip give the same answers with the same weights.
    on_model = succeed(capsys, "eval", run)
    on_chip = succeed(capsys, "eval", run, "--device", "sim")
    assert on_model["test_accuracy[%]"] == on_chip["test_accuracy[%]"] == report["test_accuracy[%]"]


@pytest.mark.parametrize("augment", ["{}", "{ shift = 1, flip = true, cutout = 3 }"])
def test_train_on_the_model_gives_the_chips_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, augment: str
) -> None:
    for device in ("sim", "model"):
        arguments = ("--device", device, "--epochs", 2, "--limit", 64, "--seed", 5)
        report = succeed(
            capsys, "train", *arguments, "--set", f"training.augment={augment}", "--out", tmp_path / device
        )
        assert report["weights_equal_golden"] is (True if device == "sim" else None)
    for chip, model in zip(Run(tmp_path / "sim").weights(), Run(tmp_path / "model").weights(), strict=True):
        np.testing.assert_array_equal(chip, model)


def test_verify(capsys: pytest.CaptureFixture[str]) -> None:
    summary = succeed(capsys, "verify", "--samples", 6)
    assert summary == {"device": "sim", "samples": 6, "equal": True, "first_difference": None}
    assert succeed(capsys, "verify", "--samples", 3, "--data", "digits")["equal"]


def test_generate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, start in (("chip.v", "module top("), ("chip.il", "module \\top")):
        summary = succeed(capsys, "generate", "-o", tmp_path / name)
        assert summary["file"] == str(tmp_path / name)
        # (64 + 1 inputs, 128 + 1) x 128 neurons x 12 bits; 65 or 129 events in 8 groups.
        assert summary["weight_memory[bits]"] == (65 + 129) * 128 * 12
        assert summary["dense_cycles"] == 129 * 8
        assert start in (tmp_path / name).read_text()


def test_a_users_own_spec_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = (rng.integers(0, 60, (90, 4, 5)) + 60 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nclasses = 3\ninput = { size = 20 }\nlayers = [{ neurons = 10, lanes = 3 }]\n'
        "training = { rate_shift = 7, decay = [0, 1] }\n"
    )
    arguments = ("--data", tmp_path / "mine.npz", "--device", "model", "--out", tmp_path / "run")
    report = succeed(capsys, "train", tmp_path / "mine.toml", *arguments)
    assert report["epochs"] == 2
    assert succeed(capsys, "eval", tmp_path / "run")["test_accuracy[%]"] == report["test_accuracy[%]"]


def test_other_values_in_the_description(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    values = ("--set", "layers.*.lanes=32", "--set", "training.decay=[0, 1]", "--set", 'name="mine"', "--seed", 7)
    report = succeed(capsys, "train", *values, "--device", "model", "--limit", 20, "--out", tmp_path / "run")
    assert (report["spec"], report["seed"], report["epochs"]) == ("mine", 7, 2)
    spec = Run(tmp_path / "run").spec
    assert spec == load_spec("digits").replaced(
        {"layers.*.lanes": 32, "training.decay": [0, 1], "name": "mine", "training.seed": 7}
    )
    summary = succeed(capsys, "generate", "--set", "layers.*.lanes=32", "-o", tmp_path / "chip.il")
    assert summary["dense_cycles"] == 129 * 4


def test_validation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """eval measures on what the run held out, and on the test part where the data are named."""
    run = tmp_path / "run"
    arguments = ("--device", "model", "--epochs", 1, "--limit", 200, "--validation", 150, "--out", run)
    report = succeed(capsys, "train", *arguments)
    assert (report["held_out"], report["validation"]) == ("last 150 training samples", 150)
    again = succeed(capsys, "eval", run)
    assert (again["samples"], again["held_out"]) == (150, "last 150 training samples")
    assert again["test_accuracy[%]"] == report["test_accuracy[%]"]
    assert succeed(capsys, "eval", run, "--data", "digits")["samples"] == 359


def test_early_exit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The run's own description has none: chip and model are made with it. On both, the same answers."""
    run = tmp_path / "run"
    whole = succeed(capsys, "train", "--device", "model", "--epochs", 2, "--out", run)["test_accuracy[%]"]
    assert succeed(capsys, "eval", run, "--exit-layer", 0)["test_accuracy[%]"] == [whole[0]] * 2
    assert succeed(capsys, "eval", run, "--exit-layer", 1)["test_accuracy[%]"] == whole
    on_model = succeed(capsys, "eval", run, "--exit-odds", 4)
    on_chip = succeed(capsys, "eval", run, "--exit-odds", 4, "--device", "sim")
    assert on_chip["test_accuracy[%]"] == on_model["test_accuracy[%]"]
    assert on_chip["answered[%]"] == on_model["answered[%]"]
    assert 0 < on_chip["answered[%]"][0] < 100
    assert sum(on_chip["answered[%]"]) == pytest.approx(100)
    assert (on_model["cycles_per_sample"], on_chip["cycles_per_sample"] > 0) == (None, True)

    found = succeed(capsys, "exits", run, "--odds", 1, 4, "--device", "sim")
    assert Run(run).exits() == found
    first, some, none = found["points"]
    assert (first["odds"], some["odds"], none["odds"]) == (1, 4, None)
    assert first["answered"] == [100, 0]
    assert first["accuracy"] == whole[0]
    assert none["answered"] == [0, 100]
    assert none["accuracy"] == whole[1]
    assert some["accuracy"] == on_chip["test_accuracy[%]"][1]
    for cost in ("words", "latency"):
        assert first[cost] < some[cost] < none[cost]
    # The first layer is busy all the time, whatever the second does.
    assert first["latency"] > none["cycles"] >= first["cycles"] > 0
    assert succeed(capsys, "exits", run, "--odds", 4)["points"][0] == some | {"cycles": None, "latency": None}


@pytest.mark.parametrize(("lose", "odds"), [(0.1, 4), (1, 2), (0.05, None)])
def test_best_exit_reads_least_of_those_that_lose_little(lose: float, odds: float | None) -> None:
    points = [
        ExitPoint(ratio, accuracy, [], words, None, None)
        for ratio, accuracy, words in ((1, 90.0, 10), (2, 97.0, 11), (4, 97.9, 12), (8, 97.93, 13), (None, 98.0, 14))
    ]
    assert best_point(points, lose).odds == odds


def test_exits_are_told_where_there_can_be_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one = ("--set", "layers=[{ neurons = 8 }]")
    succeed(capsys, "train", *one, "--device", "model", "--limit", 50, "--epochs", 1, "--out", tmp_path / "one")
    code, line = fail(capsys, "exits", tmp_path / "one")
    assert (code, line) == (3, "locallearn: digits: has a single layer, early exit needs two at least")
    code, line = fail(capsys, "eval", tmp_path / "one", "--exit-layer", 1)
    assert (code, line) == (3, "locallearn: exit layer 1: digits has layers 0 to 0")
    with pytest.raises(SystemExit):
        main(["eval", str(tmp_path / "one"), "--exit-odds", "0.5"])
    assert "0.5: needed is a number that is at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["train", "eval", "exits", "verify", "bench", "generate", "data list", "data fetch"]
)
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"example: locallearn {command}" in capsys.readouterr().out


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "train", "mnits")
    assert (code, line) == (
        3,
        f"locallearn: mnits: neither a preset ({', '.join(preset_names())}) nor a .toml file",
    )


def test_unknown_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(load_spec("digits").to_toml().replace("error_bits", "eror_bits"))
    code, line = fail(capsys, "train", tmp_path / "s.toml")
    assert code == 3
    assert "s.toml: unknown key eror_bits, did you mean error_bits?" in line


def test_impossible_format(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(load_spec("digits").to_toml().replace("bits = 12", "bits = 40"))
    code, line = fail(capsys, "generate", tmp_path / "s.toml", "-o", tmp_path / "x.v")
    assert code == 3
    assert "weight.bits = 40: must be between 2 and 16" in line


def test_impossible_value(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "verify", "--set", "layers.0.lane=4")
    assert (code, line) == (3, "locallearn: unknown key layers[0].lane, did you mean lanes?")


def test_too_many_for_validation(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "train", "--validation", 1438)
    assert code == 4
    assert line == "locallearn: digits has 1438 training samples, 1438 cannot be held out: needed are 1 to 1437"


def test_images_too_small_to_shift(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Said before anything is built or written."""
    arguments = ("--set", "training.augment.shift=9", "--out", tmp_path / "run")
    code, line = fail(capsys, "train", *arguments)
    assert code == 4
    assert line == "locallearn: training.augment.shift = 9: at most 8 is possible with images of 8x8"
    assert not (tmp_path / "run").exists()


def test_wrong_image_size(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "train", "mnist", "--data", "digits")
    assert code == 4
    assert "64" in line and "784" in line


def test_label_out_of_range(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 64), np.uint8), y=np.arange(60) % 11)
    code, line = fail(capsys, "train", "--data", tmp_path / "d.npz")
    assert code == 4
    assert "label 10" in line


def test_truncated_idx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (10, 8, 8)) + bytes(600)
    labels = b"\0\0\x08\x01" + (10).to_bytes(4, "big") + bytes(10)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    code, line = fail(capsys, "train", "--data", tmp_path)
    assert code == 4
    assert "images-idx3-ubyte.gz" in line and "656" in line and "616" in line


def test_missing_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = fail(capsys, "train", "mnist", "--data-dir", tmp_path)
    assert code == 4
    assert str(tmp_path) in line and "locallearn data fetch mnist" in line


def test_no_data_set_by_default(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('name = "n"\nclasses = 3\ninput = { size = 5 }\nlayers = [{ neurons = 4 }]\n')
    code, line = fail(capsys, "train", tmp_path / "s.toml")
    assert code == 4
    assert "no data set has 5 inputs by default: name one with --data" in line


def test_no_compiler(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> None:
        raise ToolError("no C++ compiler: apt install g++, or pip install ziglang")

    monkeypatch.setattr("locallearn.sim.build.find_compiler", none)
    code, line = fail(capsys, "train", "--out", tmp_path / "run")
    assert code == 5
    assert "apt install g++" in line


def test_dead_socket(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, line = fail(capsys, "train", "--device", f"socket://127.0.0.1:{port}", "--out", tmp_path / "run")
    assert code == 6
    assert f"socket://127.0.0.1:{port}: cannot be opened" in line
    # Nothing was trained, so the folder is free for another try.
    assert not list((tmp_path / "run").iterdir())


def test_no_such_port(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = fail(capsys, "verify", "--device", "/dev/ttyNOWHERE")
    assert code == 6
    assert "/dev/ttyNOWHERE: cannot be opened" in line


def test_verify_needs_a_chip(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fail(capsys, "verify", "--device", "model")
    assert code == 6
    assert "verify compares a chip with the golden model" in line


def test_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = fail(capsys, "eval", tmp_path / "none")
    assert code == 7
    assert "spec.toml: cannot be read" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--epochs", "0"), "argument --epochs: 0: must be at least 1"),
        (("train", "--limit", "x"), "argument --limit: invalid whole number value: 'x'"),
        (("train", "--validation", "0"), "argument --validation: 0: must be at least 1"),
        (
            ("train", "--set", "training.seed"),
            "argument --set: training.seed: needed is PATH=VALUE with a value of TOML",
        ),
        (("train", "--set", "name=mine"), "weight='{ bits = 8, fraction = 7 }', name='\"mine\"'"),
        (("train", "--set", "training.seed=1\nname='x'"), "needed is PATH=VALUE with a value of TOML"),
        (("generate", "-o", "chip.vhdl"), "chip.vhdl: must end in .v (Verilog) or .il (RTLIL)"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


# -- interruption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["model", "sim"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_mid_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, number: int
) -> None:
    def interrupting(terminal: Terminal, text: str, total: int) -> Callable[[int], None]:
        def progress(done: int) -> None:
            if text == "epoch 2/8 train" and done >= 256 and signal.getsignal(number) != before:
                os.kill(os.getpid(), number)

        return progress

    before = signal.getsignal(number)
    monkeypatch.setattr(Terminal, "task", interrupting)
    run = tmp_path / "run"
    code = main(["train", "--epochs", "8", "--device", device, "--out", str(run), "--json"])
    out, err = capsys.readouterr()
    assert code == 130
    goes_on = f"`locallearn train --resume {run}` goes on"
    assert err == f"locallearn: interrupted; everything learned until then is in {run}, {goes_on}\n"
    assert signal.getsignal(number) == before
    report = json.loads(out.splitlines()[-1])
    assert report["interrupted"]
    assert report["epochs"] == 1
    assert 256 <= report["samples"] < 1438
    assert report["weights_equal_golden"] is (True if device == "sim" else None)

    # What is saved is what so many samples teach, no more and no less.
    golden = GoldenNetwork(Run(run).spec)
    digits = load("digits")
    for epoch, count in enumerate((None, report["samples"])):
        golden.decay = golden.spec.decay_at(epoch)
        rng = np.random.default_rng([golden.spec.training.seed, epoch])
        for i in rng.permutation(len(digits.train_x))[:count]:
            golden.step(digits.train_x[i], int(digits.train_y[i]))
    for expected, actual in zip(golden.weights, Run(run).weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)
