"""Chips that are too big: what is said, and that the change which is proposed does fit."""

import json
import re
import shlex
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locallearn.fpga.boards import BOARDS, Board, find_board
from locallearn.fpga.estimate import LOGIC_ERROR, estimate
from locallearn.fpga.estimate_fit import check_fit, nearest_fit
from locallearn.host.cli import main
from locallearn.quant.errors import BuildError
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, load_spec
from tests.strategies import specs

MNIST = load_spec("mnist")

SMALLEST = load_spec("mnist-small").replaced(
    {
        "layers.0.lanes": 1,
        "layers.0.score_shift": 0,
        "input": {"bits": 4, "fraction": 4, "size": 784},
        "activation": {"bits": 4, "fraction": 2},
        "weight": {"bits": 8, "fraction": 7},
    }
)
"""The same 784-64 in fewer bits."""


def refused(spec: NetworkSpec, board: Board) -> str:
    with pytest.raises(BuildError) as error:
        check_fit(estimate(spec, board))
    return str(error.value)


def settings_in(message: str) -> dict[str, int]:
    """What a message proposes, as `replaced` takes it."""
    return {path: int(value) for path, value in re.findall(r"--set (\S+)=(\d+)", message)}


def test_what_fits_is_let_through() -> None:
    for spec, board in ((MNIST, "ulx3s-85f"), (SMALLEST, "icebreaker"), (load_spec("digits"), "tang-nano-20k")):
        found = estimate(spec, find_board(board))
        assert found.fits and not found.over
        check_fit(found)


def test_fewer_lanes() -> None:
    """Of the layer that has too many, and no fewer than the part can have."""
    spec = MNIST.replaced({"layers.0.lanes": 128, "layers.1.lanes": 128})
    board = find_board("ulx3s-85f")
    message = refused(spec, board)
    assert message.startswith("mnist does not fit ulx3s-85f (LFE5U-85F-6BG381C): needed are 256 dsp (it has 156); ")
    changes = settings_in(message)
    assert changes and {path.rpartition(".")[2] for path in changes} == {"lanes"}
    nearest = estimate(spec.replaced(changes), board)
    assert nearest.fits
    # Not half as fast as the part allows.
    assert nearest.expected.cycles.train < 1.2 * estimate(MNIST, board).expected.cycles.train


def test_fewer_neurons_where_the_weights_are_too_many() -> None:
    board = find_board("tang-nano-20k")
    message = refused(MNIST, board)
    assert "117 block_ram (it has 46)" in message
    changes = settings_in(message)
    assert {"layers.0.neurons", "layers.1.neurons"} <= set(changes)
    assert estimate(MNIST.replaced(changes), board).fits


def test_fewer_layers_where_there_is_no_room_for_their_logic(capsys: pytest.CaptureFixture[str]) -> None:
    """As the command line takes them."""
    board = find_board("icebreaker")
    message = refused(MNIST, board)
    option, change = shlex.split(message.partition("; this would fit: ")[2])
    assert option == "--set" and change.startswith("layers=[{neurons=") and "score_shift=2" in change
    assert main(["estimate", "mnist", "--board", board.name, option, change, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["fits"] and len(found["estimate_layer_resources"]) == 1


def test_nothing_nearer() -> None:
    spec = NetworkSpec("wide", 10, InputSpec(60000), (LayerSpec(8, 2),))
    message = refused(spec, find_board("tang-nano-9k"))
    assert message.endswith("; no smaller one would fit")


def test_logic_is_too_much_only_beyond_the_estimates_error() -> None:
    """LUTs are not known as well as memories are."""
    board = find_board("icebreaker")
    found = [estimate(SMALLEST.replaced({"classes": n}), board) for n in range(5, 60, 3)]
    for one in found:
        share = one.resources["lut"].used / one.resources["lut"].available
        assert one.fits == (share <= 1)
        assert ("lut" in one.over) == (share > 1 + LOGIC_ERROR)
    assert any(one.fits for one in found) and any(one.over for one in found)
    assert any(not one.fits and not one.over for one in found)


@settings(max_examples=30, deadline=None)
@given(
    spec=specs(max_inputs=4000, max_neurons=400, max_layers=4, max_classes=60),
    board=st.sampled_from(list(BOARDS.values())),
)
def test_what_is_proposed_fits(spec: NetworkSpec, board: Board) -> None:
    found = estimate(spec, board)
    nearest = nearest_fit(spec, board, found.expected.activity)
    if found.fits:
        assert nearest == spec
    elif nearest:
        assert estimate(nearest, board).fits
        assert len(nearest.layers) <= len(spec.layers)
        assert all(
            other.lanes <= layer.lanes and other.neurons <= layer.neurons
            for layer, other in zip(spec.layers, nearest.layers, strict=False)
        )


def test_the_search_takes_no_second() -> None:
    spec = NetworkSpec("wide", 10, InputSpec(784), tuple(LayerSpec(1024, 256) for _ in range(4)))
    begun = time.process_time()
    refused(spec, find_board("icebreaker"))
    assert time.process_time() - begun < 1
