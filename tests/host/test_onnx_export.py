"""Exported networks in onnxruntime against the golden model: every integer of every layer."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from locallearn.host.cli import main
from locallearn.host.datasets import load
from locallearn.host.onnx_export import PIXELS, to_onnx
from locallearn.host.onnx_float import IMAGES, to_float_onnx
from locallearn.host.run import Run
from locallearn.quant import classifier
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import RunError, ToolError
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import GoldenConv, GoldenNetwork, LayerTrace, quantise_pixels
from locallearn.quant.spec import NetworkSpec
from tests.compare import assert_same
from tests.strategies import from_whole_range, specs


def channels_first(plan: LayerPlan, activations: NDArray[Any]) -> NDArray[Any]:
    """Activations of a layer (n, outputs) in the order that ONNX has."""
    if not isinstance(plan, ConvPlan):
        return activations
    return activations.reshape(-1, *plan.output_map).transpose(0, 3, 1, 2)


def assert_equal(spec: NetworkSpec, pixels: NDArray[np.uint8], weights: list[NDArray[np.int32]], batch: int) -> None:
    spec = replace(spec, early_exit=False)
    model = to_onnx(spec, weights, layers=True, metadata={})
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input}
    assert {constant.name for constant in model.graph.initializer} <= used
    assert_session_equal(ort.InferenceSession(model.SerializeToString()), spec, pixels, weights, batch)


def assert_session_equal(
    session: Any, spec: NetworkSpec, pixels: NDArray[np.uint8], weights: list[NDArray[np.int32]], batch: int
) -> None:
    """All outputs for all samples, in batches."""
    names = [output.name for output in session.get_outputs()]
    golden = GoldenNetwork(spec)
    golden.weights = weights
    traces: list[list[LayerTrace]] = [golden.step(x) for x in quantise_pixels(spec, pixels)]
    for at in range(0, len(pixels), batch):
        images = pixels[at : at + batch].reshape(-1, *(spec.input.shape or (spec.input.size,)))
        given = dict(zip(names, session.run(names, {PIXELS: images}), strict=True))
        for index in range(len(spec.layers)):
            seen = [trace[index] for trace in traces[at : at + batch]]
            expected = channels_first(golden.plan.layers[index], np.array([trace.activations for trace in seen]))
            assert_same(f"layer {index}: activation", expected, given[f"activations_{index}"])
            assert_same(f"layer {index}: score", np.array([trace.scores for trace in seen]), given[f"scores_{index}"])
            own = [classifier.classify(trace.scores) for trace in seen]
            assert_same(f"layer {index}: predicted", np.array(own), given[f"predicted_{index}"])
        scores = given[f"scores_{len(spec.layers) - 1}"]
        if spec.sum_scores:
            below, last = golden.plan.layers[-2:]
            scores = classifier.summed(
                last, scores.astype(np.int64), below, given[f"scores_{below.index}"].astype(np.int64)
            )
        assert_same("score", scores, given["scores"])
        answers = [trace[-1].predicted for trace in traces[at : at + batch]]
        assert_same("predicted", np.array(answers), given["predicted"])


@settings(max_examples=60, deadline=None)
@given(spec=specs() | specs(max_convs=2), seed=st.integers(0, 1000), batch=st.sampled_from([1, 4]))
def test_every_output_is_the_golden_models(spec: NetworkSpec, seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (4, spec.input.size), np.uint8)
    pixels[rng.random(pixels.shape) < 0.3] = spec.input.zero
    assert_equal(spec, pixels, from_whole_range(GoldenNetwork(spec).plan, rng), batch)


@settings(max_examples=40, deadline=None)
@given(spec=specs() | specs(max_convs=2), seed=st.integers(0, 1000))
def test_floats_are_what_the_integers_stand_for(spec: NetworkSpec, seed: int) -> None:
    """Against the golden model's sums, unrounded."""
    rng = np.random.default_rng(seed)
    golden = GoldenNetwork(spec)
    weights = from_whole_range(golden.plan, rng)
    golden.weights = weights
    model = to_float_onnx(spec, weights, layers=True, metadata={})
    onnx.checker.check_model(model, full_check=True)
    x = quantise_pixels(spec, rng.integers(0, 256, (1, spec.input.size), np.uint8))[0]
    y = x / 2.0**spec.input.format.fraction
    image = y[None]
    if spec.input.shape is not None:
        channels, *sides = spec.input.shape
        image = y.reshape(1, *sides, channels).transpose(0, 3, 1, 2)
    names = [f"logits_{index}" for index in range(len(spec.layers))]
    session = ort.InferenceSession(model.SerializeToString())
    given_logits = session.run([*names, "logits"], {IMAGES: image.astype(np.float32)})
    expected = []
    for layer in golden.layers:
        plan = layer.plan
        limit = plan.output_format.max / 2.0**plan.output_format.fraction
        numbers = layer.memory.weights / 2.0**plan.weight_format.fraction
        if isinstance(layer, GoldenConv):
            windows = layer.memory.windows(y).astype(float)
            windows[:, -1] = 0.5
            sums = np.clip(windows @ numbers.T, 0, limit)
            y = sums.reshape(-1, layer.plan.conv.pool**2, plan.neurons).max(axis=1).ravel()
            (rows, columns, channels), (down, across) = layer.plan.feature_map, layer.plan.cell
            cells = y.reshape(rows, down, columns, across, channels).sum(axis=(1, 3)) / 2**layer.plan.cell_shift
            features = cells.ravel()
        else:
            y = features = np.clip(numbers @ np.append(y, 0.5), 0, limit)
        units = features * 2.0 ** (plan.output_format.fraction - plan.score_unit) @ layer.matrix
        expected.append(units * np.log(2) / 4 / (2.0**plan.score_drop if plan.classifier.learns else 1))
    expected.append(expected[-1] + expected[-2] if spec.sum_scores else expected[-1])
    for name, wanted, actual in zip([*names, "logits"], expected, given_logits, strict=True):
        np.testing.assert_allclose(actual[0], wanted, rtol=1e-4, atol=1e-4 * (1 + np.abs(wanted).max()), err_msg=name)


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", "--device", "model", "--epochs", "2", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("batch", [1, 256])
def test_a_run_gives_the_same_answers_elsewhere(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], batch: int
) -> None:
    """All that it held out."""
    capsys.readouterr()
    model = tmp_path / "digits.onnx"
    assert main(["export", str(run), str(model), "--layers", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["input"] == PIXELS and summary["bytes"] == model.stat().st_size
    data, trained = load("digits"), Run(run)
    onnx.checker.check_model(model, full_check=True)
    assert_session_equal(ort.InferenceSession(model), trained.spec, data.test_x, trained.weights(), batch)
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert NetworkSpec.from_toml(metadata["locallearn.spec"]) == trained.spec
    assert json.loads(metadata["locallearn.test_accuracy[%]"]) == trained.report["test_accuracy[%]"]
    assert metadata["locallearn.data"] == "digits"


def test_in_float_it_is_about_as_good(run: Path, tmp_path: Path) -> None:
    model = tmp_path / "digits.onnx"
    assert main(["export", str(run), str(model), "--float"]) == 0
    data, trained = load("digits"), Run(run)
    images = quantise_pixels(trained.spec, data.test_x) / 2.0**trained.spec.input.fraction
    session = ort.InferenceSession(model)
    assert [output.name for output in session.get_outputs()] == ["logits"]
    (logits,) = session.run(["logits"], {IMAGES: images.astype(np.float32)})
    right = 100 * np.mean(logits.argmax(axis=1) == data.test_y)
    assert right == pytest.approx(trained.report["test_accuracy[%]"][-1], abs=2)


def test_an_interrupted_run_says_what_it_knows(run: Path, tmp_path: Path) -> None:
    for name in ("spec.toml", "weights.npz"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    assert main(["export", str(tmp_path), str(tmp_path / "digits.onnx")]) == 0
    keys = {entry.key for entry in onnx.load(tmp_path / "digits.onnx").metadata_props}
    assert keys == {f"locallearn.{name}" for name in ("spec", "fingerprint", "seed", "version")}


def test_what_is_wrong_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["export", str(tmp_path), str(tmp_path / "a.onnx")]) == RunError.exit_code
    assert capsys.readouterr().err.endswith("a run folder is what train --out makes\n")
    missing = tmp_path / "none" / "a.onnx"
    assert main(["export", str(run), str(missing)]) == RunError.exit_code
    assert capsys.readouterr().err == f"locallearn: {missing}: cannot be written: No such file or directory\n"
    with pytest.raises(SystemExit):
        main(["export", str(run), "model.pt"])
    assert "model.pt: must end in .onnx" in capsys.readouterr().err


def test_onnx_is_an_extra(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    capsys.readouterr()
    for module in ("onnx", "locallearn.host.onnx_export", "locallearn.host.onnx_float", "locallearn.host.onnx_graph"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(run), "a.onnx"]) == ToolError.exit_code
    assert capsys.readouterr().err == "locallearn: export needs ONNX: pip install 'locallearn[onnx]'\n"
