"""Float networks as integers: units, formats, the last map's biases, and the command that imports them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from locallearn.host.cli import main
from locallearn.host.datasets import load
from locallearn.host.float_network import FloatLayer, FloatNetwork
from locallearn.host.quantise import Quantised, quantise, real_inputs
from locallearn.host.run import Run
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import DataError, ModelError, RunError
from locallearn.quant.layer_spec import ConvSpec
from locallearn.quant.network import GoldenNetwork, LayerTrace, quantise_pixels
from tests.compare import assert_same
from tests.host.onnx_models import made, node

CLASSES = 4


@st.composite
def networks(draw: st.DrawFn) -> FloatNetwork:
    """Dense, or with convolutions before that; limits, biases, averages or none."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    gain = 2.0 ** draw(st.integers(-6, 6))

    def layer(fan_in: int, neurons: int, window: ConvSpec | None) -> FloatLayer:
        limit = draw(st.none() | st.floats(0.05, 20))
        return FloatLayer("layer", gain * rng.normal(size=(neurons, fan_in)), rng.normal(size=neurons), window, limit)

    shape: tuple[int, int, int] | None = None
    layers: list[FloatLayer] = []
    width, resolution = draw(st.integers(1, 30)), 0
    signed = draw(st.booleans())
    if draw(st.booleans()):
        side = 2 * draw(st.integers(2, 4))
        shape = (draw(st.integers(1, 3)), side, side)
        size, channels = math.prod(shape), shape[0]
        for pool in draw(st.sampled_from([(1,), (2,), (1, 2)])):
            window = ConvSpec(draw(st.integers(1, 5)), pool=pool, resolution=0)
            layers.append(layer(9 * channels, window.channels, window))
            channels, side = window.channels, side // pool
        width = channels * side * side
        if draw(st.booleans()):
            resolution = draw(st.sampled_from([n for n in range(1, side + 1) if side % n == 0]))
    else:
        size = width
    if not layers or (not resolution and draw(st.booleans())):
        neurons = draw(st.integers(1, 40))
        layers.append(layer(width, neurons, None))
        width = neurons
    elif resolution:
        width = channels * resolution**2
    matrix = rng.normal(size=(width, CLASSES)) * 2.0 ** draw(st.integers(-6, 6))
    biases = draw(st.booleans()) * rng.normal(size=CLASSES)
    return FloatNetwork(shape, size, signed, tuple(layers), matrix, biases, resolution)


def samples(network: FloatNetwork, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, network.size), np.uint8), rng.integers(0, CLASSES, count)


def run(made: Quantised, pixels: NDArray[np.uint8]) -> list[list[LayerTrace]]:
    golden = GoldenNetwork(made.spec)
    golden.weights = made.arrays
    return [golden.step(x) for x in quantise_pixels(made.spec, pixels)]


@settings(max_examples=60, deadline=None)
@given(network=networks(), weight_bits=st.sampled_from([8, 12, 16]))
def test_weights_and_biases_are_the_models(network: FloatNetwork, weight_bits: int) -> None:
    """To half a unit, by the units of activations that the report has."""
    pixels, labels = samples(network, 20)
    made = quantise(network, "made", pixels, labels, weight_bits)
    fraction, below = made.spec.weight.fraction, 1 / 256
    assert made.spec.weight.bits == weight_bits
    for number, (layer, report, ints) in enumerate(zip(network.layers, made.layers, made.arrays, strict=False)):
        # An input of the chip's is n / 2^fraction, an activation of the model's n * unit.
        first = number == 0
        inputs = 1.0 if first else 256 * below
        step = 2.0**-fraction * report.unit * 256
        ints = ints[: layer.neurons]
        kept = np.abs(ints) < made.spec.weight.max
        np.testing.assert_allclose(
            (ints[:, :-1] * step / inputs)[kept[:, :-1]], layer.weights[kept[:, :-1]], 0, 0.51 * step / inputs
        )
        np.testing.assert_allclose((ints[:, -1] * step / 2)[kept[:, -1]], layer.biases[kept[:, -1]], 0, 0.26 * step)
        below = report.unit
        assert report.weights == layer.weights.size + layer.biases.size


@settings(max_examples=60, deadline=None)
@given(network=networks())
def test_scores_are_the_models_logits(network: FloatNetwork) -> None:
    """Of the chip's activations: a unit of the softmax is a quarter of an octave; with biases, divided if large."""
    pixels, labels = samples(network, 20)
    made = quantise(network, "made", pixels, labels, 16)
    plan = GoldenNetwork(made.spec).plan.layers[-1]
    unit, neurons = made.layers[-1].unit, network.layers[-1].neurons
    logit = math.log(2) / 4 / 2.0**plan.score_shift
    matrix = made.arrays[-1] / 2.0**plan.classifier.format.fraction
    assert np.abs(matrix).max() >= 1 or plan.score_shift == 16
    assert made.temperature == 1 or plan.score_shift == 0
    for trace in run(made, pixels):
        features = trace[-1].features.reshape(-1, plan.neurons)[:, :neurons].ravel() * unit
        if isinstance(plan, ConvPlan):
            features *= 2.0**plan.cell_shift / math.prod(plan.cell)
        logits = (features @ network.matrix + network.biases) / made.temperature
        # Half a unit of every entry, and the bits that scores lose.
        error = 0.5 * trace[-1].features.sum() / 2.0**plan.classifier.format.fraction / 2 + 1
        given = trace[-1].scores * logit
        # What all classes share says nothing.
        np.testing.assert_allclose(given - given.mean(), logits - logits.mean(), 1e-9, 2 * error * logit)


def test_activations_follow_the_model() -> None:
    """Of a network like those that people train, within a percent."""
    rng = np.random.default_rng(3)
    layers = [
        FloatLayer("a", rng.normal(size=(50, 100)) / 10, rng.normal(size=50) / 10),
        FloatLayer("b", rng.normal(size=(40, 50)) / 5, rng.normal(size=40) / 10),
    ]
    network = FloatNetwork(None, 100, False, tuple(layers), rng.normal(size=(40, CLASSES)), np.zeros(CLASSES))
    pixels, labels = samples(network, 200)
    made = quantise(network, "made", pixels, labels, 12)
    assert [layer.neurons for layer in made.spec.layers] == [50, 40]
    wanted = network.activations(real_inputs(network, pixels))
    for index, layer in enumerate(made.layers):
        given = np.array([trace[index].activations for trace in run(made, pixels)]) * layer.unit
        noise = np.square(given - wanted[index]).mean() / np.square(wanted[index]).mean()
        assert -10 * math.log10(noise) == pytest.approx(layer.activation_snr, abs=0.02)
        assert layer.activation_snr > 40


def test_scores_that_are_too_large_are_divided() -> None:
    """Whatever is added to those of all classes."""
    rng = np.random.default_rng(4)
    layer = FloatLayer("a", rng.normal(size=(30, 20)), rng.normal(size=30))
    matrix = rng.normal(size=(30, CLASSES))
    plain, large = (
        FloatNetwork(None, 20, False, (layer,), by * matrix + more, by * np.ones(CLASSES) + more)
        for by, more in ((1, 0), (1000, 10_000))
    )
    pixels, labels = samples(plain, 300)
    found = [quantise(network, "made", pixels, labels, 12) for network in (plain, large)]
    assert found[0].temperature == 1 < found[1].temperature
    assert found[1].score_snr is not None and found[1].score_snr > 35
    answers = [[trace[-1].predicted for trace in run(made, pixels)] for made in found]
    assert (np.array(answers[0]) != answers[1]).sum() <= 6


def test_a_network_that_is_dead_can_be_imported() -> None:
    network = FloatNetwork(
        None, 4, False, (FloatLayer("a", np.zeros((3, 4)), np.zeros(3)),), np.zeros((3, 2)), np.ones(2)
    )
    made = quantise(network, "dead", *samples(network, 5), 12)
    assert all(trace[-1].activations[:3].max() == 0 for trace in run(made, samples(network, 5)[0]))


@pytest.mark.parametrize("power", [-148, -120, -60, 60, 110, 127])
@pytest.mark.parametrize("matrix", [-140, 0, 120])
def test_the_smallest_and_the_largest_numbers_are_taken_or_refused(power: int, matrix: int) -> None:
    rng = np.random.default_rng(0)
    layers = [FloatLayer("a", 2.0**power * rng.normal(size=(6, 5)), 2.0**power * rng.normal(size=6))]
    layers.append(FloatLayer("b", 2.0 ** -max(power, -120) * rng.normal(size=(4, 6)), np.zeros(4)))
    network = FloatNetwork(
        None, 5, False, tuple(layers), 2.0**matrix * rng.normal(size=(4, CLASSES)), 2.0**matrix * np.ones(CLASSES)
    )
    try:
        made = quantise(network, "extreme", *samples(network, 20), 12)
    except ModelError as error:
        assert "are not finite" in str(error)
        assert power > 100
    else:
        assert power < -100 or made.layers[0].activation_snr > 25


def test_numbers_beyond_all_are_refused() -> None:
    layer = FloatLayer("node", np.full((3, 4), 1e38), np.full(3, 3e38))
    network = FloatNetwork(None, 4, False, (layer,), np.zeros((3, 2)), np.ones(2))
    with pytest.raises(ModelError, match="node: its activations of the calibration's samples are not finite"):
        quantise(network, "huge", np.full((5, 4), 255, np.uint8), np.array([0, 1, 0, 1, 0]), 12)


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scikit-learn's classifier learns of digits."""
    data = load("digits")
    found = MLPClassifier((24, 16), random_state=0, max_iter=60).fit(data.train_x / 255, data.train_y)
    nodes, constants, x = [], {}, "x"
    for number, (weights, biases) in enumerate(zip(found.coefs_, found.intercepts_, strict=True)):
        constants |= {f"w{number}": weights, f"b{number}": biases}
        nodes.append(node("Gemm", f"{x} w{number} b{number}", f"h{number}"))
        x = f"a{number}"
        nodes.append(node("Relu" if number < 2 else "Softmax", f"h{number}", x))
    path = tmp_path_factory.mktemp("model") / "digits mlp.onnx"
    path.write_bytes(made(nodes, constants, ("batch", 64), "a2").SerializeToString())
    return path


def test_a_model_goes_in_and_out_by_the_commands(
    digits_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, exported = tmp_path / "imported", tmp_path / "exported.onnx"
    assert main(["import", str(digits_model), "-o", str(folder), "--json"]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed.splitlines()[-1])
    assert "layer 0" in printed and "360 samples" not in printed
    assert report["data"] == "digits" and report["held_out"].startswith("random fifth")
    assert report["test_accuracy[%]"][-1] > 94
    assert abs(report["float_accuracy[%]"] - report["test_accuracy[%]"][-1]) <= 1
    # The classifier inside has learned from the calibration.
    assert report["test_accuracy[%]"][0] > 85
    found = Run(folder)
    assert found.spec.name == "digits-mlp"
    assert [layer.neurons for layer in found.spec.layers] == [24, 17]

    assert main(["eval", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["test_accuracy[%]"] == report["test_accuracy[%]"]
    assert main(["export", str(folder), str(exported)]) == 0
    data = load("digits")
    (predicted,) = ort.InferenceSession(exported).run(["predicted"], {"pixels": data.test_x})
    model: Any = GoldenNetwork(found.spec)
    model.weights = found.weights()
    assert_same("predicted", model.run(data.test_x).predicted[:, -1], predicted)
    (probabilities,) = ort.InferenceSession(digits_model).run(None, {"x": (data.test_x / 255).astype(np.float32)})
    assert (probabilities.argmax(axis=1) != predicted).sum() == report["other_answers"]


def test_what_was_imported_learns_on_the_chip_and_goes_out(
    digits_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images that lie on their side: the simulated chip adapts, and the exported model has its answers."""
    imported, adapted, exported = tmp_path / "imported", tmp_path / "adapted", tmp_path / "adapted.onnx"
    data = load("digits")
    turned = [np.rot90(x.reshape(-1, 8, 8), 1, (1, 2)).reshape(-1, 64) for x in (data.train_x[:200], data.test_x)]
    labels = {"y": data.train_y[:200], "y_test": data.test_y}
    np.savez(tmp_path / "mine.npz", x=turned[0], x_test=turned[1], **labels)
    assert main(["import", str(digits_model), "-o", str(imported)]) == 0
    wanted = ["--data", str(tmp_path / "mine.npz"), "--epochs", "4", "--device", "sim", "--out", str(adapted)]
    assert main(["train", "--init", str(imported), *wanted, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["weights_equal_golden"] is True
    assert report["test_accuracy[%]"][-1] > report["initial_test_accuracy[%]"][-1] + 50
    assert main(["export", str(adapted), str(exported)]) == 0
    (predicted,) = ort.InferenceSession(exported).run(["predicted"], {"pixels": turned[1]})
    assert round(100 * float((predicted == data.test_y).mean()), 4) == report["test_accuracy[%]"][-1]


def test_bad_wishes_are_refused_by_message(digits_model: Path, tmp_path: Path) -> None:
    arguments = ["import", str(digits_model), "-o", str(tmp_path / "out")]
    np.savez(tmp_path / "other.npz", x=np.zeros((30, 5), np.uint8), y=np.arange(30) % 3)
    assert main([*arguments, "--calibration", str(tmp_path / "other.npz")]) == DataError.exit_code
    np.savez(tmp_path / "many.npz", x=np.zeros((60, 64), np.uint8), y=np.arange(60) % 12)
    assert main([*arguments, "--calibration", str(tmp_path / "many.npz")]) == DataError.exit_code
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "there").touch()
    assert main(arguments) == RunError.exit_code
    for wrong in (["--weight-bits", "20"], ["--std", "0"], ["--mean", "nan"]):
        with pytest.raises(SystemExit):
            main([*arguments, *wrong])
