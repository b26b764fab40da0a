"""The description: what it means, what it refuses and in which words, and what makes another chip."""

import tomllib
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from locallearn.quant.classifier import error
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.spec import (
    AugmentSpec,
    ConvSpec,
    InputSpec,
    LayerSpec,
    NetworkSpec,
    TrainingSpec,
    load_spec,
    preset_names,
)
from tests.strategies import specs

EXAMPLE = """
name = "example"
classes = 10
error_bits = 6
noise_bits = 8
[input]
size = 20
bits = 8
fraction = 8
[activation]
bits = 8
fraction = 4
[weight]
bits = 12
fraction = 11
[[layers]]
neurons = 16
lanes = 4
rate_shift = 8
[layers.classifier]
matrix = "uniform"
[[layers]]
neurons = 8
lanes = 2
score_shift = 3
init_shift = 2
[layers.classifier]
feedback_bits = 4
[training]
rate_shift = 7
decay = [0, 1, 3]
seed = 5
[training.augment]
shift = 2
flip = true
cutout = 4
"""


# -- TOML ----------------------------------------------------------------------------------------------


def test_example_is_read() -> None:
    assert NetworkSpec.from_toml(EXAMPLE) == NetworkSpec(
        name="example",
        classes=10,
        input=InputSpec(20, 8, 8),
        layers=(LayerSpec(16, 4, rate_shift=8), LayerSpec(8, 2, score_shift=3, init_shift=2)),
        activation=QFormat(8, 4),
        weight=QFormat(12, 11, signed=True),
        error_bits=6,
        noise_bits=8,
        training=TrainingSpec(7, (0, 1, 3), 5, AugmentSpec(shift=2, flip=True, cutout=4)),
    )


def test_only_four_things_are_needed() -> None:
    text = 'name = "least"\nclasses = 2\ninput = { size = 1 }\nlayers = [{ neurons = 1 }]'
    assert NetworkSpec.from_toml(text) == NetworkSpec("least", 2, InputSpec(1), (LayerSpec(1),))


@given(specs(max_inputs=1 << 16, max_neurons=1 << 12, max_layers=4, max_classes=256))
def test_toml_round_trip(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_toml(spec.to_toml()) == spec


@pytest.mark.parametrize("name", preset_names())
def test_presets(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert NetworkSpec.from_toml(spec.to_toml()) == spec


def test_preset_names() -> None:
    assert preset_names() == ["cifar10-conv", "cifar10-conv-large", "digits", "fashion-conv", "mnist", "mnist-small"]


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(EXAMPLE)
    assert load_spec(path) == load_spec(str(path)) == NetworkSpec.from_toml(EXAMPLE)


# -- bad input, by its message -------------------------------------------------------------------------

MISSING = object()
WHOLE = "must be a whole number"
IMAGE: dict[str, Any] = {"input": {"shape": [1, 8, 8]}}


def changed(changes: dict[str, Any]) -> str:
    """The example with the values at dotted paths replaced, or removed where they are MISSING."""
    root = tomllib.loads(EXAMPLE)
    for path, value in changes.items():
        *parents, key = [int(part) if part.isdigit() else part for part in path.split(".")]
        table: Any = root
        for part in parents:
            table = table[part]
        if value is MISSING:
            del table[key]
        else:
            table[key] = deepcopy(value)
    return tomli_w.dumps(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # unknown keys
        ({"clases": 3}, "unknown key clases, did you mean classes?"),
        ({"input.sise": 3}, "unknown key input.sise, did you mean size?"),
        ({"activation.bit": 3}, "unknown key activation.bit, did you mean bits?"),
        ({"weight.signed": True}, "unknown key weight.signed; known are bits, fraction"),
        ({"layers.1.score": 3}, "unknown key layers[1].score, did you mean score_shift?"),
        ({"training.q": 3}, "unknown key training.q; known are augment, decay, rate_shift, seed"),
        ({"training.augment.flips": 3}, "unknown key training.augment.flips, did you mean flip?"),
        # missing keys
        ({"name": MISSING}, "name is missing"),
        ({"classes": MISSING}, "classes is missing"),
        ({"input": MISSING}, "input is missing"),
        ({"input.size": MISSING}, "input.size is missing"),
        ({"layers": MISSING}, "layers is missing"),
        ({"layers.1.neurons": MISSING}, "layers[1].neurons is missing"),
        ({"activation.bits": MISSING}, "activation.bits is missing"),
        ({"weight.fraction": MISSING}, "weight.fraction is missing"),
        # wrong types
        ({"name": 3}, "name = 3: must be a text"),
        ({"classes": "10"}, f"classes = '10': {WHOLE}"),
        ({"input": 20}, "input = 20: must be a table"),
        ({"input.size": 20.0}, f"input.size = 20.0: {WHOLE}"),
        ({"layers": 2}, "layers = 2: must be a list of tables, [[layers]]"),
        ({"layers": {"neurons": 2}}, "layers = {'neurons': 2}: must be a list of tables, [[layers]]"),
        ({"layers.1": 16}, "layers[1] = 16: must be a table"),
        ({"layers.0.neurons": True}, f"layers[0].neurons = True: {WHOLE}"),
        ({"layers.1.rate_shift": 7.5}, f"layers[1].rate_shift = 7.5: {WHOLE}"),
        ({"activation": 8}, "activation = 8: must be a table such as { bits = 8, fraction = 4 }"),
        ({"weight.bits": "12"}, f"weight.bits = '12': {WHOLE}"),
        ({"training": []}, "training = []: must be a table"),
        ({"early_exit": 1}, "early_exit = 1: must be true or false"),
        (
            {"training.decay": 3},
            "training.decay = 3: must be a list, one shift an epoch, or a table such as { epochs = 20, to = 0.02 }",
        ),
        ({"training.decay": [0, "1"]}, "training.decay[1] = '1': must be a number from 0 to 8"),
        ({"training.decay": {"epochs": 5}}, "training.decay.to is missing"),
        ({"training.decay": {"epochs": 0, "to": 1}}, "training.decay.epochs = 0: must be between 1 and 10000"),
        ({"training.decay": {"epochs": 5, "to": 0}}, "training.decay.to = 0: must be a number from 0.00390625 to 1"),
        ({"training.augment": 2}, "training.augment = 2: must be a table"),
        ({"training.augment.shift": 1.5}, f"training.augment.shift = 1.5: {WHOLE}"),
        ({"training.augment.drop": 1.0}, "training.augment.drop = 1.0: must be a number from 0 to below 1"),
        ({"training.augment.drop": True}, "training.augment.drop = True: must be a number from 0 to below 1"),
        ({"training.augment.drop": "a"}, "training.augment.drop = 'a': must be a number from 0 to below 1"),
        ({"training.augment.flip": 1}, "training.augment.flip = 1: must be true or false"),
        # out of range
        ({"classes": 1}, "classes = 1: must be between 2 and 256"),
        ({"classes": 257}, "classes = 257: must be between 2 and 256"),
        ({"input.size": 0}, "input.size = 0: must be between 1 and 65536"),
        ({"input.size": 65537}, "input.size = 65537: must be between 1 and 65536"),
        ({"error_bits": 1}, "error_bits = 1: must be between 2 and 8"),
        ({"error_bits": 9}, "error_bits = 9: must be between 2 and 8"),
        ({"noise_bits": 0}, "noise_bits = 0: must be between 1 and 16"),
        ({"noise_bits": 17}, "noise_bits = 17: must be between 1 and 16"),
        ({"layers": []}, "layers: none given, at least one [[layers]] is needed"),
        ({"layers": [{"neurons": 1}] * 33}, "layers: 33 given, at most 32 are possible"),
        ({"layers.0.neurons": 0}, "layers[0].neurons = 0: must be between 1 and 4096"),
        ({"layers.0.neurons": 4097}, "layers[0].neurons = 4097: must be between 1 and 4096"),
        ({"layers.1.lanes": 0}, "layers[1].lanes = 0: must be between 1 and 8"),
        ({"layers.1.lanes": 9}, "layers[1].lanes = 9: must be between 1 and 8"),
        ({"layers.0.rate_shift": -1}, "layers[0].rate_shift = -1: must be between 0 and 40"),
        ({"layers.1.score_shift": 17}, "layers[1].score_shift = 17: must be between 0 and 16"),
        ({"layers.1.init_shift": -1}, "layers[1].init_shift = -1: must be between 0 and 16"),
        ({"training.rate_shift": 41}, "training.rate_shift = 41: must be between 0 and 40"),
        ({"training.seed": -1}, "training.seed = -1: must be between 0 and 18446744073709551615"),
        ({"training.decay": [0, 9]}, "training.decay[1] = 9: must be a number from 0 to 8"),
        ({"training.decay": []}, "training.decay: empty, one entry an epoch is needed, such as [0, 0, 1, 2]"),
        ({"training.augment.shift": -1}, "training.augment.shift = -1: must be between 0 and 65536"),
        ({"training.augment.cutout": 65537}, "training.augment.cutout = 65537: must be between 0 and 65536"),
        ({"layers.0.dropout": 1}, "layers[0].dropout = 1: must be a number from 0 to below 1"),
        ({"layers.0.dropout": "half"}, "layers[0].dropout = 'half': must be a number from 0 to below 1"),
        ({"layers.0.decay": []}, "layers[0].decay: empty, one entry an epoch is needed, such as [0, 0, 1, 2]"),
        ({"layers.0.decay": [0, 9]}, "layers[0].decay[1] = 9: must be a number from 0 to 8"),
        (
            {"layers.1.decay": 1},
            "layers[1].decay = 1: must be a list, one shift an epoch, or a table such as { epochs = 20, to = 0.02 }",
        ),
        ({"layers.0.frozen": True}, "layers[0].frozen = True: must be one of no, weights, all"),
        (
            {"layers.1.frozen": "weights"},
            "layers[1].frozen = 'weights': its classifier does not learn, nothing would; take 'all'",
        ),
        (
            IMAGE | {"layers.0": {"channels": 4, "frozen": "weights"}},
            "layers[0].frozen = 'weights': its classifier does not learn, nothing would; take 'all'",
        ),
        # what a layer learns from
        ({"layers.0.classifier": "ternary"}, "layers[0].classifier = 'ternary': must be a table"),
        ({"layers.0.classifier.los": "x"}, "unknown key layers[0].classifier.los, did you mean loss?"),
        (
            {"layers.0.classifier.matrix": "signs"},
            "layers[0].classifier.matrix = 'signs': must be one of uniform, ternary, learned",
        ),
        (
            {"layers.1.classifier.feedback": 1},
            "layers[1].classifier.feedback = 1: must be one of symmetric, sign-concordant, random",
        ),
        (
            {"layers.1.classifier.loss": "hinge"},
            "layers[1].classifier.loss = 'hinge': must be one of cross-entropy, squared-hinge",
        ),
        ({"layers.1.classifier.error": "dfa"}, "layers[1].classifier.error = 'dfa': must be one of local, top, label"),
        ({"layers.1.classifier.bits": 0}, "layers[1].classifier.bits = 0: must be between 1 and 8"),
        ({"layers.1.classifier.bits": "4"}, f"layers[1].classifier.bits = '4': {WHOLE}"),
        ({"layers.1.classifier.rate_shift": 17}, "layers[1].classifier.rate_shift = 17: must be between 0 and 16"),
        (
            {"layers.1.classifier": {"matrix": "learned", "bits": 7}},
            "layers[1].classifier.bits = 7: must be between 8 and 16",
        ),
        (
            {"layers.1.classifier": {"matrix": "learned", "feedback": "random"}},
            "layers[1].classifier.feedback = 'random': a learned matrix learns from its own error and brings it back "
            "itself",
        ),
        (
            {"layers.0.classifier": {"matrix": "learned", "error": "label"}},
            "layers[0].classifier.error = 'label': a learned matrix learns from its own error and brings it back "
            "itself",
        ),
        (  # 4 + 6 + 3 - 13 + 0
            {"layers.0.classifier": {"matrix": "learned", "bits": 16, "rate_shift": 0}},
            "layers[0].classifier.rate_shift = 0: with a matrix of s16.13 and these formats at least 1 is needed",
        ),
        ({"layers.1.classifier.feedback_bits": 9}, "layers[1].classifier.feedback_bits = 9: must be between 1 and 8"),
        (
            {"layers.0.classifier": {"matrix": "ternary", "bits": 2}},
            "layers[0].classifier.bits = 2: a ternary matrix has none to choose, leave it out",
        ),
        (
            {"layers.0.classifier": {"matrix": "ternary", "feedback": "sign-concordant"}},
            "layers[0].classifier.feedback = 'sign-concordant': the zeros of a ternary matrix have no sign",
        ),
        (
            {"layers.0.classifier": {"feedback": "sign-concordant", "feedback_bits": 1}},
            "layers[0].classifier.feedback_bits = 1: one is the sign, at least 2 are needed for magnitudes",
        ),
        (
            {"layers.0.classifier": {"loss": "squared-hinge", "error": "label"}},
            "layers[0].classifier.loss = 'squared-hinge': only a local error has a loss, error is 'label'",
        ),
        (
            {"layers.1.classifier.error": "top"},
            "layers[1].classifier.error = 'top': the last layer's own must be 'local', not 'top'",
        ),
        (
            {"layers.0.classifier.error": "top", "layers.1.classifier.error": "label"},
            "layers[0].classifier.error = 'top': the last layer's own must be 'local', not 'label'",
        ),
        (  # 255 * 10 * 127 takes 19 bits, a sign and 3 of decay
            {"layers.0.classifier": {"bits": 8, "loss": "squared-hinge"}},
            "layers[0].classifier: an error brought back to a neuron takes 23 bits, at most 22 are possible; fewer "
            "feedback bits, error bits or decay make it smaller",
        ),
        # images and convolutions
        ({"input.shape": 64}, "input.shape = 64: must be a list of channels, rows and columns"),
        ({"input.shape": [64]}, "input.shape = [64]: must be channels, rows and columns"),
        ({"input.shape": [1, 8, 0]}, "input.shape[2] = 0: must be between 1 and 65536"),
        (
            {"input.shape": [1, 8, 9]},
            "input.size = 20: a shape of 1x8x9 is 72 numbers; leave one of them out",
        ),
        ({"input.signed": 1}, "input.signed = 1: must be true or false"),
        ({"input.signed": True}, "input.fraction = 8: must be between 1 and 7"),
        ({"input.signed": True, "input.bits": 1}, "input.bits = 1: must be between 2 and 8"),
        (
            {"layers.0": {"channels": 4}},
            "layers[0]: a convolution needs rows and columns, but input.shape is not given",
        ),
        (
            IMAGE | {"layers.1": {"channels": 4}},
            "layers[1]: a convolution needs rows and columns, but layers[0] is dense",
        ),
        (
            IMAGE | {"layers.0": {"channels": 4, "neurons": 4}},
            "unknown key layers[0].neurons; known are channels, classifier, decay, frozen, init_shift, kernel, lanes, "
            "padding, pool, rate_shift, resolution, score_shift, stride",
        ),
        (IMAGE | {"layers.0": {"channels": 0}}, "layers[0].channels = 0: must be between 1 and 4096"),
        (IMAGE | {"layers.0": {"channels": 4, "lanes": 5}}, "layers[0].lanes = 5: must be between 1 and 4"),
        (IMAGE | {"layers.0": {"channels": 4, "kernel": 6}}, "layers[0].kernel = 6: must be between 1 and 5"),
        (IMAGE | {"layers.0": {"channels": 4, "stride": 3}}, "layers[0].stride = 3: must be between 1 and 2"),
        (IMAGE | {"layers.0": {"channels": 4, "padding": 3}}, "layers[0].padding = 3: must be between 0 and 2"),
        (IMAGE | {"layers.0": {"channels": 4, "pool": 3}}, "layers[0].pool = 3: must be between 1 and 2"),
        (
            IMAGE | {"layers.0": {"channels": 4, "resolution": 3}},
            "layers[0].resolution = 3: cannot divide an output of 8x8 pixels; possible are 1, 2, 4, 8, or 0 for all "
            "pixels",
        ),
        (
            IMAGE | {"input.shape": [4, 2, 8], "layers.0": {"channels": 4, "kernel": 5, "padding": 1}},
            "layers[0]: nothing is left of 2x8 pixels by a kernel of 5, stride 1, padding 1 and pool 1",
        ),
        (
            IMAGE | {"layers.0": {"channels": 4000, "resolution": 0}},
            "layers[0]: an output of 256000 numbers, at most 65536 are possible",
        ),
        (  # 65536 * 255 * 255
            {
                "input": {"shape": [1, 256, 256]},
                "layers.0": {"channels": 1, "kernel": 1, "resolution": 0, "classifier": {"bits": 8}},
            },
            "layers[0].classifier: scores of 32 bits, at most 31 are possible; fewer bits or a lower resolution make "
            "them smaller",
        ),
        # impossible formats
        ({"input.bits": 9}, "input.bits = 9: must be between 1 and 8"),
        ({"input.bits": -1}, "input.bits = -1: must be between 1 and 8"),
        ({"input.bits": 6, "input.fraction": 7}, "input.fraction = 7: must be between 1 and 6"),
        ({"activation.bits": 100_000}, "activation.bits = 100000: must be between 1 and 8"),
        ({"activation.fraction": 0}, "activation.fraction = 0: must be between 1 and 8"),
        ({"weight.bits": 1}, "weight.bits = 1: must be between 2 and 16"),
        ({"weight.fraction": 17}, "weight.fraction = 17: must be between 0 and 16"),
        # numbers that do not go together
        (
            {"input.fraction": 3, "activation.fraction": 8, "weight.fraction": 4},
            "weight.fraction = 4: with inputs of 3 fraction bits layer 0 cannot make activations of 8; "
            "at least 5 is needed",
        ),
        (
            {"layers.1.init_shift": 12},
            "layers[1].init_shift = 12: below the weights' unit, at most 11 is possible",
        ),
        (  # an update shift of 8 + 6 + 40 + 3 - 11 - 1
            {"layers.0.rate_shift": 40},
            "layers[0]: rate_shift = 40 with these formats is an update shift of 45; "
            "rate_shift must be between 0 and 35",
        ),
        (  # 4 + 6 + 2 + 3 - 16 - 1, the rate from the training section
            {"weight.fraction": 16, "training.rate_shift": 2},
            "layers[1]: rate_shift = 2 with these formats is an update shift of -2; "
            "rate_shift must be between 5 and 40",
        ),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        NetworkSpec.from_toml(changed(changes), "example.toml")
    assert str(caught.value) == f"example.toml: {message}"


def test_not_toml() -> None:
    with pytest.raises(SpecError) as caught:
        NetworkSpec.from_toml("classes = = 10")
    assert str(caught.value).startswith("specification: not TOML: ")
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", f"mnits: neither a preset ({', '.join(preset_names())}) nor a .toml file"),
        ("none.toml", "none.toml: cannot be read: [Errno 2] No such file or directory: 'none.toml'"),
        ("folder", "folder: cannot be read: [Errno 21] Is a directory: 'folder'"),
        ("latin1.toml", "latin1.toml: cannot be read: 'utf-8' codec can't decode byte 0xe9"),
        ("wrong.toml", "wrong.toml: classes is missing"),
    ],
)
def test_unreadable(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("latin1.toml").write_bytes('name = "\u00e9"'.encode("latin-1"))
    Path("wrong.toml").write_text('name = "wrong"')
    with pytest.raises(SpecError) as caught:
        load_spec(name)
    assert str(caught.value).startswith(message)


TOML_VALUES: SearchStrategy[Any] = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.text(max_size=4) | st.datetimes(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=4,
)
PATHS = [
    *("name", "classes", "error_bits", "input", "input.size", "input.bits", "input.fraction", "activation"),
    *("activation.bits", "weight", "weight.fraction", "layers", "layers.0", "layers.0.neurons", "layers.1.lanes"),
    *("layers.0.rate_shift", "layers.1.score_shift", "training", "training.decay", "training.seed", "other"),
    *(
        "training.augment",
        "training.augment.shift",
        "training.augment.flip",
        "training.augment.cutout",
        "training.augment.drop",
    ),
]


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(PATHS), TOML_VALUES | st.integers(-1, 20), min_size=1, max_size=1))
def test_no_other_error_escapes(changes: dict[str, Any]) -> None:
    """Whatever stands at any place: a valid description, or one line that names the place."""
    try:
        spec = NetworkSpec.from_toml(changed(changes))
    except SpecError as error:
        event("refused")
        (path,) = changes
        assert path.split(".")[0] in str(error)
    else:
        event("accepted")
        assert NetworkSpec.from_toml(spec.to_toml()) == spec


# -- other values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": "other"},
        {"training.seed": 9, "training.decay": [0, 1]},
        {"weight": {"bits": 8, "fraction": 7}},
        {"weight.bits": 8, "weight.fraction": 7},
        {"input.bits": 6, "input.fraction": 6},  # neither would do alone
        {"layers.0.lanes": 8},
        {"layers.1.rate_shift": 6},  # not there before
        {"training.augment.shift": 1},
        {"training.augment": {"flip": True}},
        {"layers.0.classifier.loss": "squared-hinge"},
        {"layers": [{"neurons": 5}]},
        {"training.decay.1": 2},
    ],
)
def test_replaced_is_the_same_as_another_file(values: dict[str, Any]) -> None:
    spec = NetworkSpec.from_toml(EXAMPLE)
    assert spec.replaced(values) == NetworkSpec.from_toml(changed(values))
    assert spec == NetworkSpec.from_toml(EXAMPLE)


def test_replaced_in_every_layer() -> None:
    both = {"layers.0.score_shift": 5, "layers.1.score_shift": 5}
    spec = NetworkSpec.from_toml(EXAMPLE).replaced({"layers.*.score_shift": 5})
    assert spec == NetworkSpec.from_toml(changed(both))


def test_replaced_one_after_the_other() -> None:
    """The later value counts, and what was given is not touched."""
    values = {"layers": [{"neurons": 5}], "layers.*": {"neurons": 4}, "layers.0.lanes": 2, "training.decay": [3]}
    spec = NetworkSpec.from_toml(EXAMPLE).replaced(values)
    assert spec.layers == (LayerSpec(4, lanes=2),)
    assert spec.training.decay == (3,)
    assert values["layers.*"] == {"neurons": 4}
    same_twice = spec.replaced({"layers": [{"neurons": 5}] * 2, "layers.0.lanes": 2})
    assert same_twice.layers == (LayerSpec(5, lanes=2), LayerSpec(5))


def test_replaced_by_the_default() -> None:
    spec = NetworkSpec.from_toml(EXAMPLE).replaced({"error_bits": None, "layers.*.rate_shift": None})
    assert (spec.error_bits, [layer.rate_shift for layer in spec.layers]) == (None, [None, None])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clases": 3}, "unknown key clases, did you mean classes?"),
        ({"trainig.seed": 3}, "unknown key trainig, did you mean training?"),
        ({"training.augment.shifts": 3}, "unknown key training.augment.shifts, did you mean shift?"),
        ({"layers.*.lane": 3}, "unknown key layers[0].lane, did you mean lanes?"),
        ({"layers.2.lanes": 3}, "layers.2.lanes: there is no 2 in a list of 2; * takes all, 0 the first"),
        ({"layers.first.lanes": 3}, "layers.first.lanes: there is no first in a list of 2; * takes all, 0 the first"),
        ({"training.seed.low": 3}, "training.seed.low: there is no low in 5"),
        ({"layers.*.lanes": 9}, "layers[1].lanes = 9: must be between 1 and 8"),
        ({"layers.0.lanes": None}, f"layers[0].lanes = None: {WHOLE}"),
        ({"weight": {"bits": 8}}, "weight.fraction is missing"),
        ({"input.bits": 6}, "input.fraction = 8: must be between 1 and 6"),
    ],
)
def test_replaced_by_the_impossible(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        NetworkSpec.from_toml(EXAMPLE).replaced(values)
    assert str(caught.value) == message


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*PATHS, "layers.*.lanes", "layers.x"]), TOML_VALUES, max_size=3))
def test_replaced_raises_no_other_error(values: dict[str, Any]) -> None:
    try:
        spec = NetworkSpec.from_toml(EXAMPLE).replaced(values)
    except SpecError:
        event("refused")
    else:
        assert NetworkSpec.from_toml(spec.to_toml()) == spec


# -- numbers that follow -------------------------------------------------------------------------------


def test_own_numbers_come_first() -> None:
    spec = NetworkSpec.from_toml(EXAMPLE)
    assert [spec.rate_shift(layer) for layer in (0, 1)] == [8, 7]
    assert spec.score_shift(1) == 3
    assert spec.init_shift(1) == 2
    assert [spec.inputs(layer) for layer in (0, 1)] == [20, 16]
    assert [str(spec.input_format(layer)) for layer in (0, 1)] == ["u8.8", "u8.4"]


@pytest.mark.parametrize(("inputs", "shift"), [(1, 8), (784, 8), (1024, 9), (3072, 11), (27_648, 16), (65_536, 18)])
def test_default_rate_shift(inputs: int, shift: int) -> None:
    spec = NetworkSpec("", 2, InputSpec(inputs), (LayerSpec(4), LayerSpec(4, rate_shift=5)))
    assert [spec.rate_shift(layer) for layer in (0, 1)] == [shift, 5]
    common = replace(spec, training=TrainingSpec(rate_shift=7))
    assert [common.rate_shift(layer) for layer in (0, 1)] == [7, 5]


@pytest.mark.parametrize("fraction", range(1, 9))
def test_default_score_shift(fraction: int) -> None:
    """Half the spread of N activations, 2^fraction sqrt(N) / 2, is 12 / ln 2 units, to the nearest power of two.

    Compared exactly, by squares: floats must not decide differently from machine to machine.
    """
    shift, scale = 0, (Decimal(2).ln() / 24) ** 2 * 4**fraction
    for neurons in range(1, 4097):
        while scale * neurons > 2 * 4**shift:
            shift += 1
        spec = NetworkSpec("", 2, InputSpec(1), (LayerSpec(neurons),), activation=QFormat(8, fraction))
        assert spec.score_shift(0) == shift, f"{neurons} neurons"


def test_default_error_bits() -> None:
    """6, or as few more as leave every class an error where all scores are equal."""
    for classes in range(2, 257):
        plan = LayerPlan(NetworkSpec("", classes, InputSpec(1), (LayerSpec(1),)), 0)
        assert plan.error_bits == (6 if classes <= 64 else 7 if classes <= 128 else 8)
        assert error(plan, np.zeros(classes, np.int64), 0).all(), f"{classes} classes"


def test_default_init_shift() -> None:
    """The largest s with 2^s <= sqrt(inputs), around every power of four and at the largest size."""
    for inputs in {4**n + d for n in range(9) for d in (-1, 0, 1)} - {0, 65537}:
        spec = NetworkSpec("", 2, InputSpec(inputs), (LayerSpec(1),))
        assert 4 ** spec.init_shift(0) <= inputs < 4 ** (spec.init_shift(0) + 1)


def test_default_init_shift_keeps_to_the_format() -> None:
    spec = NetworkSpec("", 2, InputSpec(65536), (LayerSpec(1),), weight=QFormat(8, 4, signed=True))
    assert spec.init_shift(0) == 4


@given(st.integers(1, 5), st.integers(1, 2600))
def test_default_init_shift_of_convolutions(kernel: int, channels: int) -> None:
    """2^-s is the power of two nearest by ratio to sqrt(6 / fan-in), and at most 1."""
    conv = ConvSpec(1, kernel, padding=0, resolution=0)
    spec = NetworkSpec("", 2, InputSpec(kernel**2 * channels, shape=(channels, kernel, kernel)), (conv,))
    fan_in, shift = kernel**2 * channels, spec.init_shift(0)
    # sqrt(6 / fan-in) / 2^-s lies between sqrt(1/2) and sqrt(2), squared and without fractions.
    assert 3 * 4**shift <= fan_in or shift == 0
    assert fan_in <= 12 * 4**shift


def test_decay_of_every_epoch() -> None:
    layers = (LayerSpec(4), LayerSpec(4, decay=(2, 1)))
    spec = NetworkSpec("", 2, InputSpec(4), layers, training=TrainingSpec(decay=(0, 1, 3)))
    assert spec.training.epochs == 3
    assert [spec.decay_at(epoch) for epoch in range(5)] == [(0, 2), (1, 1), (3, 1), (3, 1), (3, 1)]
    assert [spec.max_decay(layer) for layer in (0, 1)] == [3, 2]


# -- fingerprint ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 11},
        {"error_bits": 7},
        {"noise_bits": 7},
        {"input.size": 21},
        {"input.bits": 7, "input.fraction": 7},
        {"input.fraction": 7},
        {"activation.bits": 7},
        {"activation.fraction": 5},
        {"weight.bits": 13},
        {"weight.fraction": 10},
        {"layers.0.neurons": 17},
        {"layers.0.lanes": 5},
        {"layers.0.rate_shift": 9},
        {"layers.1.score_shift": 4},
        {"layers": [{"neurons": 16, "lanes": 4, "rate_shift": 8}]},
        {"training.rate_shift": 8},
        {"training.decay": [0, 1, 2]},
        {"layers.0.classifier.matrix": "ternary"},
        {"layers.0.classifier.bits": 2},
        {"layers.0.classifier.feedback": "random", "layers.0.classifier.feedback_bits": 1},
        {"layers.0.classifier.loss": "squared-hinge"},
        {"layers.0.classifier.error": "top"},
        {"layers.0.classifier.error": "label"},
        {"layers.0.dropout": 0.25},
        {"layers.0.decay": [0, 2]},
        {"layers.0.decay": [0, 1, 3]},  # a register of its own
        # The same update shift as before, of an error that is one bit wider.
        {"training.decay": [0, 1, 4], "training.rate_shift": 6, "layers.0.rate_shift": 7},
    ],
)
def test_another_chip_has_another_fingerprint(changes: dict[str, Any]) -> None:
    assert NetworkSpec.from_toml(changed(changes)).fingerprint != NetworkSpec.from_toml(EXAMPLE).fingerprint


CONVOLUTION = NetworkSpec(
    "",
    3,
    InputSpec(64, 7, 6, shape=(1, 8, 8)),
    (
        # A classifier of all pixels, so that neither shift follows from the window.
        ConvSpec(4, 3, padding=1, resolution=0, rate_shift=6, score_shift=2, classifier=ClassifierSpec("learned")),
        LayerSpec(5, rate_shift=6),
    ),
    training=TrainingSpec(decay=(0, 1)),
)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers.0.kernel": 5},
        {"layers.0.stride": 2},
        {"layers.0.padding": 2},
        {"layers.0.pool": 2},
        {"layers.0.resolution": 4, "layers.0.rate_shift": 4},  # the same update shift
        {"input.shape": [1, 4, 16]},
        {"input.signed": True},
        {"layers.0.classifier.bits": 11, "layers.0.classifier.rate_shift": 2},  # the same shift for the matrix
        {"layers.0.classifier.rate_shift": 4},
        {"early_exit": True},
        {"sum_scores": True},
        {"training.decay": [0.5, 1]},
        {"layers.1.decay": [0.5, 1]},
        {"layers.1.decay": [0, 1]},  # a register of its own
    ],
)
def test_another_chip_of_convolutions_has_another_fingerprint(changes: dict[str, Any]) -> None:
    """Each differs by nothing else that a chip is made of."""
    assert CONVOLUTION.replaced(changes).fingerprint != CONVOLUTION.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"training.seed": 6},
        {"training.decay": [3, 3, 0, 1, 2]},
        {"training.augment": MISSING},
        {"error_bits": MISSING},  # 6, the default
        {"layers.1.init_shift": 3},  # the host writes the weights
        {"layers.0.classifier": MISSING},
        {"layers.0.classifier.feedback_bits": 8},  # of a feedback that is M^T
        {"layers.0.frozen": "all"},  # the host says so
        {"layers.1.rate_shift": 7},  # what it takes from the training section anyway
    ],
)
def test_the_same_chip_keeps_its_fingerprint(changes: dict[str, Any]) -> None:
    assert NetworkSpec.from_toml(changed(changes)).fingerprint == NetworkSpec.from_toml(EXAMPLE).fingerprint


def test_any_chip_with_a_learned_matrix_can_freeze_the_weights() -> None:
    learned = {"layers.0.classifier": {"matrix": "learned"}}
    frozen = NetworkSpec.from_toml(changed(learned | {"layers.0.frozen": "weights"}))
    assert frozen.fingerprint == NetworkSpec.from_toml(changed(learned)).fingerprint


@given(specs())
def test_fingerprint_survives_toml(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_toml(spec.to_toml()).fingerprint == spec.fingerprint
    assert 0 <= spec.fingerprint < 1 << 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": QFormat(12, 11)}, "activation = u8.4, weight = u12.11: must be unsigned and signed"),
        ({"activation": QFormat(8, 4, signed=True)}, "activation = s8.4, weight = s12.11: must be unsigned and signed"),
    ],
)
def test_formats_made_in_python(changes: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        replace(load_spec("digits"), **changes)
    assert str(error.value) == message
