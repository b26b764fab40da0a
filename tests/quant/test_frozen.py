"""Layers that do not learn: what stands still in them, and that the others do not notice. Both models."""

import numpy as np
import pytest

from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.fast import FastNetwork
from locallearn.quant.network import BatchTrace, GoldenNetwork, Model
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from tests.compare import assert_same

LEARNED = ClassifierSpec("learned", rate_shift=4)
SPEC = NetworkSpec(
    "",
    5,
    InputSpec(36, shape=(1, 6, 6)),
    (
        ConvSpec(6, pool=1, resolution=2, lanes=4, classifier=LEARNED),
        LayerSpec(12, 5, classifier=LEARNED, dropout=0.25),
        LayerSpec(8, 3),
    ),
    training=TrainingSpec(5, (0, 1)),
)
SAMPLES = 60

each_model = pytest.mark.parametrize("kind", [GoldenNetwork, FastNetwork])


def after(kind: type[Model], spec: NetworkSpec, decay: float = 0) -> tuple[Model, BatchTrace]:
    """A model that has learned from samples, and what it made of them."""
    rng = np.random.default_rng(0)
    model = kind(spec)
    model.decay = (decay,) * len(spec.layers)
    x = rng.integers(0, 256, (SAMPLES, spec.input.size), np.uint8)
    return model, model.run(x, rng.integers(0, spec.classes, SAMPLES))


def arrays(model: Model) -> dict[str, np.ndarray]:
    return dict(zip(model.plan.arrays, model.weights, strict=True))


def states(model: Model, layer: int) -> tuple[int, int]:
    """Of a layer's noise registers."""
    return model.noise_states[layer], model.matrix_noise_states[layer]


@each_model
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_frozen_layer_stays_as_it_is(kind: type[Model], layer: int) -> None:
    spec = SPEC.replaced({f"layers.{layer}.frozen": "all"})
    (frozen, trace), (free, free_trace) = after(kind, spec), after(kind, SPEC)
    untouched, counters = kind(spec), frozen.counters[layer]
    for name, first in arrays(untouched).items():
        number = int(name.rpartition("_")[2])
        if number == layer:
            assert_same(name, first, arrays(frozen)[name])
        elif number < layer:
            # It learns from its own error: nothing comes from above.
            assert_same(name, arrays(free)[name], arrays(frozen)[name])
        else:
            assert (first != arrays(frozen)[name]).any()
    assert states(frozen, layer) == states(untouched, layer)
    assert (counters.learned, counters.skipped, counters.saturated) == (0, SAMPLES, 0)
    assert (counters.words_written, counters.gradients) == (0, 0)
    # It passes on, answers and says its error as before it had learned anything.
    assert_same("error size", free_trace.error_size[0], trace.error_size[0])
    assert (trace.error_size[:, layer] > 0).any()
    assert frozen.mask_states == free.mask_states != untouched.mask_states


@each_model
@pytest.mark.parametrize("layer", [0, 1])
def test_only_the_classifier_of_a_layer_learns(kind: type[Model], layer: int) -> None:
    spec = SPEC.replaced({f"layers.{layer}.frozen": "weights"})
    (frozen, _), untouched = after(kind, spec), kind(spec)
    noise, matrix_noise = states(untouched, layer)
    weights, matrix = f"layer_{layer}", f"classifier_{layer}"
    assert_same(weights, arrays(untouched)[weights], arrays(frozen)[weights])
    assert (arrays(untouched)[matrix] != arrays(frozen)[matrix]).any()
    assert states(frozen, layer)[0] == noise
    assert states(frozen, layer)[1] != matrix_noise
    counters = frozen.counters[layer]
    assert counters.learned > 0
    assert (counters.words_written, counters.gradients, counters.saturated) == (0, 0, 0)


@each_model
def test_others_learn_from_the_error_of_a_frozen_last_layer(kind: type[Model]) -> None:
    top = {"error": "top"}
    spec = SPEC.replaced({"layers.0.classifier": top, "layers.1.classifier": top, "layers.2.frozen": "all"})
    (frozen, trace), untouched = after(kind, spec), kind(spec)
    first, last = arrays(untouched), arrays(frozen)
    assert [(first[name] != last[name]).any() for name in first] == [True, True, False]
    assert [counters.learned > 0 for counters in frozen.counters] == [True, True, False]
    assert_same("error size", trace.error_size[:, [2, 2]], trace.error_size[:, :2])


@each_model
def test_a_decay_of_fractions_is_one_of_two_while_the_noise_stands_still(kind: type[Model]) -> None:
    layer = LayerSpec(12, 5, classifier=LEARNED, frozen="weights")
    between = NetworkSpec("", 5, InputSpec(20), (layer,), training=TrainingSpec(5, (0.5,)))
    whole = between.replaced({"training.decay": [0, 1]})
    drawn = arrays(after(kind, between, 0.5)[0])["classifier_0"]
    assert any((drawn == arrays(after(kind, whole, decay)[0])["classifier_0"]).all() for decay in (0, 1))
