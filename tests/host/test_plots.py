"""Pictures show the numbers of their folders, and nothing else; damage is told by its message."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from locallearn.host import plot_run, plot_sweep
from locallearn.host.cli import main
from locallearn.host.plot_axes import CLIPPED, accuracy_limits, colours
from locallearn.host.plot_fields import against, field_pictures
from locallearn.host.plot_sweep_data import read_sweep
from locallearn.host.plot_tradeoff import tradeoff
from locallearn.host.plots import plot
from locallearn.host.run import Run
from locallearn.quant.errors import RunError, ToolError
from locallearn.quant.spec import LayerSpec, load_spec

RNG = np.random.default_rng(1)


# -- folders ---------------------------------------------------------------------------------------------------------


def write_run(
    path: Path, held_out: NDArray[np.float64], *, classes: int = 10, confusion: bool = True, report: bool = True
) -> Path:
    """A run with held-out accuracies (epochs, layers), and made-up figures beside them."""
    epochs, layers = held_out.shape
    spec = load_spec("digits")
    spec = replace(spec, classes=classes, layers=(LayerSpec(16),) * layers, error_bits=None)
    run = Run.create(path)
    run.save_spec(spec)
    for epoch in range(epochs):
        run.add_metrics(
            {
                "epoch": epoch + 1,
                "decay": [epoch // 2] * layers,
                "test_accuracy[%]": held_out[epoch].tolist(),
                "train_accuracy[%]": (held_out[epoch] + 0.5).tolist(),
                "learned_fraction": [0.25 / (epoch + layer + 1) for layer in range(layers)],
            }
        )
    if confusion:
        run.save_confusion([RNG.integers(0, 99, (classes, classes)) for _ in range(layers)])
    if report:
        run.save_report({"spec": "digits", "data": "pictures", "held_out": "last 9 training samples", "seed": 7})
    return path


def write_sweep(
    path: Path,
    fields: Sequence[str],
    trials: Sequence[tuple[Any, ...]],
    accuracy: Sequence[Sequence[float]],
    *,
    memory: Sequence[int] | None = None,
    states: Sequence[str] | None = None,
    runs: bool = False,
) -> Path:
    """A sweep's trials.csv: `trials` are the fields' values; accuracies (layers) come from the rows of `accuracy`."""
    path.mkdir(parents=True)
    layers = max(map(len, accuracy))
    columns = ["trial", "state", *fields, "epochs", "weight_memory[bits]", "multipliers"]
    columns += [*(f"accuracy[{layer}][%]" for layer in range(layers)), "throughput[samples/s]", "folder"]
    with (path / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number, values in enumerate(trials):
            state = states[number] if states else "complete"
            row: dict[str, Any] = {"trial": number, "state": state}
            row |= {field: json.dumps(value) for field, value in zip(fields, values, strict=True)}
            if state == "complete":
                row |= {"epochs": 3, "weight_memory[bits]": memory[number] if memory else 1000 * (number + 1)}
                row |= {f"accuracy[{layer}][%]": value for layer, value in enumerate(accuracy[number])}
            writer.writerow(row)
            if runs and state == "complete":
                held_out = np.array(accuracy[number]) - np.array([[4.0], [0.5], [0.0]])
                write_run(path / "trials" / f"{number:04}", held_out, confusion=False)
    return path


def format_(bits: int) -> dict[str, int]:
    return {"bits": bits, "fraction": bits - 1}


# -- what is drawn ---------------------------------------------------------------------------------------------------


def lines(axes: Axes, style: str = "-") -> list[NDArray[np.float64]]:
    """What its lines of a style show: (2, n), x and y."""
    return [
        np.array(line.get_data(), float)
        for line in axes.lines
        if line.get_linestyle() == style and line.get_label() != CLIPPED
    ]


def clipped(axes: Axes) -> list[float]:
    """Where triangles say that a point is below the axis."""
    return [float(x) for line in axes.lines if line.get_label() == CLIPPED for x in np.asarray(line.get_xdata())]


def bars(axes: Axes) -> list[NDArray[np.float64]]:
    """Of every error bar container: (n, 3), x, mean and deviation."""
    result = []
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (segments,) = container.lines
        assert line is not None
        x, y = np.array(line.get_data(), float)
        ends = np.array([s[:, 1] if len(s) else [np.nan, np.nan] for s in segments.get_segments()])
        known = np.isfinite(ends[:, 0])
        assert_allclose(ends.mean(1)[known], y[known])
        result.append(np.stack([x, y, np.ptp(ends, axis=1) / 2], 1))
    return result


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def title(figure: Figure) -> str:
    return figure.get_suptitle()


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "layers"), [(1, 1), (1, 3), (9, 2), (40, 8), (3, 12)])
def test_learning_curves(tmp_path: Path, epochs: int, layers: int) -> None:
    held_out = RNG.uniform(97, 98.5, (epochs, layers))
    figure = plot_run.run_pictures(write_run(tmp_path / "run", held_out))[0]["learning"]
    assert title(figure) == "digits, seed 7\ndata: pictures, held out: last 9 training samples"
    above, below, *_ = figure.axes
    whole = np.arange(1, epochs + 1)
    for layer in range(layers):
        assert_array_equal(lines(above)[layer], [whole, held_out[:, layer]])
        assert_array_equal(lines(above, "--")[layer], [whole, held_out[:, layer] + 0.5])
        assert_allclose(lines(below)[layer], [whole, 25 / (whole + layer)])
    assert legend(figure)[: layers + 2] == [*(f"layer {layer}" for layer in range(layers)), "held out", "training"]
    assert len({line.get_color() for line in above.lines}) == layers
    low, high = above.get_ylim()
    assert 0.1 < high - low < 3
    assert "decay [bits]" in [axes.get_ylabel() for axes in figure.axes] or epochs < 3


def test_decay_is_a_step(tmp_path: Path) -> None:
    figure = plot_run.run_pictures(write_run(tmp_path / "run", RNG.uniform(97, 98, (5, 2))))[0]["learning"]
    (step,) = figure.axes[2].patches
    values, edges, _ = step.get_data()
    assert_array_equal(values, [0, 0, 1, 1, 2])
    assert_array_equal(edges, np.arange(6) + 0.5)


def test_a_bad_first_epoch_does_not_squash_the_others(tmp_path: Path) -> None:
    held_out = np.array([[11.0, 96.8], [97.0, 97.1], [97.5, 97.6], [97.9, 98.1]])
    figure = plot_run.run_pictures(write_run(tmp_path / "run", held_out))[0]["learning"]
    low, high = figure.axes[0].get_ylim()
    assert 94 < low < 96.8 < 98.6 < high < 99
    # Held out and training of layer 0.
    assert clipped(figure.axes[0]) == [1, 1]
    assert legend(figure)[-1] == "below the axis"


def test_limits_hold_all_that_is_close() -> None:
    values = np.array([97.0, 97.6, 98.2, np.nan])
    low, high = accuracy_limits(values, np.array([0.2, np.nan, 0.3, np.nan]))
    assert 96.5 < low < 96.8 < 98.5 < high < 98.7
    assert accuracy_limits(np.array([100.0])) == pytest.approx((99.9, 100.1))


def test_epoch_that_was_interrupted_is_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0], [95.0]]))
    Run(path).add_metrics({"epoch": 3, "decay": [0, 0], "test_accuracy[%]": None, "samples": 0})
    figure = plot_run.run_pictures(path)[0]["learning"]
    assert_array_equal(lines(figure.axes[0]), [[[1, 2], [90, 95]]])


def test_run_that_goes_on_has_its_title_from_the_description(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0]]), report=False)
    figure = plot_run.run_pictures(path)[0]["learning"]
    assert title(figure) == "digits, seed 1\nthe run is not finished"


@pytest.mark.parametrize(
    ("classes", "layers", "panels"),
    [(2, 1, [0]), (10, 3, [0, 1, 2]), (10, 4, [0, 1, 2, 3]), (10, 5, [4]), (20, 2, [0, 1]), (100, 2, [0, 1])],
)
def test_confusion(tmp_path: Path, classes: int, layers: int, panels: list[int]) -> None:
    path = write_run(tmp_path / "run", np.full((2, layers), 97.0), classes=classes)
    figure = plot_run.run_pictures(path)[0]["confusion"]
    counts = Run(path).confusion()
    grid = [axes for axes in figure.axes if axes.get_title()]
    for layer, axes in zip(panels, grid, strict=True):
        matrix = counts[layer]
        shares = axes.images[0].get_array()
        assert_allclose(shares, 100 * matrix / matrix.sum(1)[:, None])
        assert axes.get_title() == f"layer {layer}: {100 * np.trace(matrix) / matrix.sum():.2f} %"
        written = np.zeros_like(matrix)
        for text in axes.texts:
            predicted, label = text.get_position()
            written[int(label), int(predicted)] = int(text.get_text())
        assert_array_equal(written, matrix if classes <= 20 else 0 * matrix)


def test_class_without_samples_is_no_error(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0]]), classes=3)
    Run(path).save_confusion([np.array([[5, 1, 0], [0, 0, 0], [0, 2, 2]])])
    figure = plot_run.run_pictures(path)[0]["confusion"]
    assert_array_equal(figure.axes[0].images[0].get_array()[1], [0, 0, 0])


def write_exits(path: Path, latency: Sequence[float | None], **changes: Any) -> None:
    """Five points of two layers."""
    odds, accuracy = (1, 2, 4.5, 64, None), (91.0, 97.6, 98.01, 98.0, 98.0)
    points = [
        {
            "odds": o,
            "accuracy": a,
            "answered": [100 - 25 * n, 25 * n],
            "words": 100 + n,
            "cycles": late and 3,
            "latency": late,
        }
        for n, (o, a, late) in enumerate(zip(odds, accuracy, latency, strict=True))
    ]
    measured = {"data": "pictures", "held_out": "last 9 training samples", "device": "sim", "points": points}
    Run(path).save_exits(measured | changes)


@pytest.mark.parametrize("latency", [[600.5, 610, 640, 800, 900], [None] * 5])
def test_exits(tmp_path: Path, latency: list[float | None]) -> None:
    """Against what a chip says, or, on a model, against the weights that are read."""
    path = write_run(tmp_path / "run", np.full((2, 2), 97.0))
    write_exits(path, latency)
    figure = plot_run.run_pictures(path)[0]["exits"]
    assert title(figure).splitlines()[1] == "data: pictures, held out: last 9 training samples, on sim"
    above, below = figure.axes
    cost = [100, 101, 102, 103, 104] if latency[0] is None else latency
    assert_array_equal(lines(above)[0], [cost, [91.0, 97.6, 98.01, 98.0, 98.0]])
    assert_array_equal(lines(above, "--")[0][1], [98.0, 98.0])
    assert_array_equal(lines(below), [[cost, [100, 75, 50, 25, 0]], [cost, [0, 25, 50, 75, 100]]])
    assert [text.get_text() for text in above.texts] == ["1", "2", "4.5", "64", "no exit"]
    low, high = above.get_ylim()
    assert low < 91 < 98.01 < high
    assert below.get_xlabel() == (
        "weights read for a sample, mean" if latency[0] is None else "cycles from a sample to its result, mean"
    )


@pytest.mark.parametrize(
    ("points", "said"), [([], "IndexError('list index out of range')"), ([{"odds": 1}], "KeyError('latency')")]
)
def test_exits_that_are_damaged(tmp_path: Path, points: list[Any], said: str) -> None:
    path = write_run(tmp_path / "run", np.full((2, 2), 97.0))
    write_exits(path, [None] * 5, points=points)
    with pytest.raises(RunError) as error:
        plot_run.run_pictures(path)
    assert str(error.value) == f"{path / 'exits.json'}: not what `exits` writes: {said}"


def test_run_without_confusion(tmp_path: Path) -> None:
    drawn = plot(write_run(tmp_path / "run", np.array([[90.0]]), confusion=False), tmp_path, "svg")
    assert drawn.files == [tmp_path / "learning.svg"]
    assert drawn.notes == [f"{tmp_path / 'run'} has no confusion.npz, so there is no confusion matrix"]


# -- sweeps ----------------------------------------------------------------------------------------------------------


def test_learning_of_a_sweep(tmp_path: Path) -> None:
    accuracy = RNG.uniform(97, 98, (9, 2))
    trials = [(seed, flip) for flip in ("a", "b", "c") for seed in (1, 2, 3)]
    path = write_sweep(
        tmp_path / "sweep", ["training.seed", "training.augment.x"], trials, accuracy.tolist(), runs=True
    )
    sweep = read_sweep(path)
    figure = plot_sweep.learning(sweep, "title")
    assert title(figure) == "title"
    grouped = accuracy.reshape(3, 3, 2)
    order = np.argsort(-grouped.mean(1).max(1))
    assert legend(figure)[:3] == [f"augment.x {'abc'[i]}" for i in order]
    for layer, axes in enumerate(figure.axes):
        for place, configuration in enumerate(order):
            seeds = grouped[configuration, :, layer]
            mean = seeds.mean() - np.array([4, 0.5, 0])
            assert_allclose(lines(axes)[place], [[1, 2, 3], mean])
            vertices = axes.collections[place].get_paths()[0].vertices
            band = {(x, round(y, 6)) for x, y in np.asarray(vertices)}
            for epoch in (1, 2, 3):
                for sign in (-1, 1):
                    assert (epoch, round(mean[epoch - 1] + sign * seeds.std(ddof=1), 6)) in band
        assert clipped(axes)


def test_learning_shows_the_best_eight(tmp_path: Path) -> None:
    accuracy = RNG.permutation(np.linspace(97, 98, 11))
    path = write_sweep(tmp_path / "sweep", ["n"], [(n,) for n in range(11)], accuracy[:, None].tolist(), runs=True)
    figure = plot_sweep.sweep_pictures(path)[0]["learning"]
    assert title(figure).splitlines() == [
        "digits: 1 seed",
        "data: pictures, held out: last 9 training samples",
        "the best 8 of 11 configurations, by their best layer",
    ]
    assert_allclose([y[-1] for _, y in lines(figure.axes[0])], np.sort(accuracy)[:-9:-1])


def test_tradeoff(tmp_path: Path) -> None:
    accuracy = RNG.uniform(97, 98, (12, 2))
    trials = [(seed, format_(bits), n) for bits in (6, 8) for n in (1, 2, 3) for seed in (1, 2)]
    memory = [bits["bits"] * 1000 for _, bits, _ in trials]
    path = write_sweep(tmp_path / "sweep", ["training.seed", "weight", "n"], trials, accuracy.tolist(), memory=memory)
    figure = tradeoff(read_sweep(path), "title")
    (axes,) = figure.axes
    grouped = accuracy.reshape(2, 3, 2, 2)
    mean, deviation = grouped.mean(2), grouped.std(2, ddof=1)
    best = mean.argmax(2)[..., None]
    # One container for each n, since the memory tells the bits.
    for n, points in enumerate(bars(axes)):
        assert_array_equal(points[:, 0], [6, 8])
        assert_allclose(points[:, 1], np.take_along_axis(mean, best, 2)[:, n, 0])
        assert_allclose(points[:, 2], np.take_along_axis(deviation, best, 2)[:, n, 0])
    assert legend(figure) == ["n 1", "n 2", "n 3"]


def test_tradeoff_marks_colours_and_shapes(tmp_path: Path) -> None:
    trials = [(shape, flip) for shape in ([{"neurons": 9}], [{"neurons": 9}, {"neurons": 5}]) for flip in (False, True)]
    accuracy = [[97.1], [97.2], [97.3, 97.0], [97.4, 98.0]]
    path = write_sweep(tmp_path / "sweep", ["layers", "f"], trials, accuracy, memory=[9, 9, 14, 14])
    figure = tradeoff(read_sweep(path), "title")
    points = [container.lines[0] for container in figure.axes[0].containers]
    drawn = {(point.get_color(), point.get_marker()): float(point.get_ydata()[0]) for point in points}
    first, second = colours(2)
    assert drawn == {(first, "o"): 97.1, (first, "s"): 97.2, (second, "o"): 97.3, (second, "s"): 98.0}
    assert legend(figure) == ["layers 9", "layers 9-5", "f false", "f true"]


def test_same_memory_makes_no_tradeoff(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep", ["training.seed"], [(1,), (2,)], [[97.0], [98.0]], memory=[9, 9], runs=True)
    pictures, notes = plot_sweep.sweep_pictures(path)
    assert set(pictures) == {"learning"}
    assert notes == ["all configurations have the same weight memory, so there is no trade-off"]
    assert_allclose(lines(pictures["learning"].axes[0]), [[[1, 2, 3], [93.5, 97, 97.5]]])


@pytest.mark.parametrize("tables", [True, False])
def test_bits(tmp_path: Path, tables: bool) -> None:
    trials = [
        (format_(w) if tables else w, format_(a) if tables else a, seed)
        for a in (3, 8)
        for w in (6, 10, 16)
        for seed in (1, 2)
    ]
    fields = ["weight", "activation"] if tables else ["weight.bits", "activation.bits"]
    accuracy = RNG.uniform(97, 98, (12, 3))
    path = write_sweep(tmp_path / "sweep", [*fields, "training.seed"], trials, accuracy.tolist())
    pictures = field_pictures(read_sweep(path), "title")
    assert set(pictures) == {"bits"}
    figure = pictures["bits"]
    grouped = accuracy.reshape(2, 3, 2, 3)
    for layer, axes in enumerate(figure.axes):
        assert axes.get_title() == f"layer {layer}"
        for line, points in enumerate(bars(axes)):
            assert_array_equal(points[:, 0], [6, 10, 16])
            assert_allclose(points[:, 1], grouped[line, :, :, layer].mean(1))
            assert_allclose(points[:, 2], grouped[line, :, :, layer].std(1, ddof=1))
    assert figure.axes[-1].get_xlabel() == "weight bits"
    names = ["activation 3 bits", "activation 8 bits"] if tables else ["activation.bits 3", "activation.bits 8"]
    assert legend(figure) == names


def test_bits_take_the_best_of_what_else_varies(tmp_path: Path) -> None:
    trials = [(w, a, n) for w in (6, 8) for a in (3, 4) for n in (0, 1)]
    accuracy = [[97.0, 97.1], [97.2, 97.0], [98.0, 97.0], [97.5, 97.9], [97.7], [97.8], [97.5], [97.6]]
    path = write_sweep(tmp_path / "sweep", ["weight.bits", "activation.bits", "training.rate_shift"], trials, accuracy)
    figure = field_pictures(read_sweep(path), "title")["bits"]
    assert title(figure) == "title\neach the best of rate_shift"
    assert_array_equal([y for _, y in lines(figure.axes[0])], [[97.2, 97.8], [98.0, 97.6]])
    # With eight bits there is one layer only.
    assert_array_equal([y for _, y in lines(figure.axes[1])], [[97.0, np.nan], [97.0, np.nan]])


def test_one_number(tmp_path: Path) -> None:
    trials = [(shift, seed) for shift in (2, 0, 1) for seed in (1, 2, 3)]
    accuracy = RNG.uniform(97, 98, (9, 2))
    path = write_sweep(tmp_path / "sweep", ["layers.*.score_shift", "training.seed"], trials, accuracy.tolist())
    pictures = field_pictures(read_sweep(path), "title")
    assert set(pictures) == {"layers.all.score_shift"}
    (axes,) = pictures["layers.all.score_shift"].axes
    grouped = accuracy.reshape(3, 3, 2)[[1, 2, 0]]
    for layer, points in enumerate(bars(axes)):
        assert_array_equal(points[:, 0], [0, 1, 2])
        assert_allclose(points[:, 1], grouped[:, :, layer].mean(1))
        assert_allclose(points[:, 2], grouped[:, :, layer].std(1, ddof=1))
    assert axes.get_xlabel() == "score_shift [bits]"
    assert legend(pictures["layers.all.score_shift"]) == ["layer 0", "layer 1"]


def test_one_number_beside_names_has_a_line_for_each(tmp_path: Path) -> None:
    trials = [(rate, name) for rate in (1e-3, 1e-2, 1e-1) for name in range(10)]
    trials = [(rate, f"name {name}") for rate, name in trials]
    accuracy = np.linspace(97, 98, 30)
    path = write_sweep(tmp_path / "sweep", ["rate", "name"], trials, accuracy[:, None].tolist())
    figure = field_pictures(read_sweep(path), "title")["rate"]
    assert title(figure) == "title\nthe best 8 of 10 lines, by their best layer"
    assert legend(figure) == [f"name name {name}" for name in range(2, 10)]
    for place, line in enumerate(lines(figure.axes[0])):
        assert_allclose(line, [[1e-3, 1e-2, 1e-1], accuracy.reshape(3, 10)[:, place + 2]])
    assert figure.axes[0].get_xscale() == "log"


def test_heat_map_of_two_numbers(tmp_path: Path) -> None:
    trials = [(x, y, seed) for x in (4, 2, 3) for y in (10, 20) for seed in (1, 2)][:-2]
    accuracy = RNG.uniform(97, 98, (10, 2))
    accuracy[0] = [11, 97]
    path = write_sweep(tmp_path / "sweep", ["x", "y", "training.seed"], trials, accuracy.tolist())
    pictures = field_pictures(read_sweep(path), "title")
    assert set(pictures) == {"heatmap"}
    figure = pictures["heatmap"]
    mean, deviation = accuracy.reshape(5, 2, 2).mean(1), accuracy.reshape(5, 2, 2).std(1, ddof=1)
    for layer in (0, 1):
        axes = figure.axes[layer]
        cells = axes.images[0].get_array()
        # Rows are y, columns are x, both ascending; (3, 20) was not run.
        expected = [[mean[2, layer], mean[4, layer], mean[0, layer]], [mean[3, layer], np.nan, mean[1, layer]]]
        assert_allclose(np.ma.filled(cells, np.nan), expected)
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        assert len(texts) == 5
        assert texts[(0, 0)] == f"{mean[2, layer]:.2f}\n±{deviation[2, layer]:.2f}"
        assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "3", "4"]
        assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["10", "20"]
        assert axes.images[0].get_clim()[0] > 90


def test_three_numbers_have_no_picture_of_their_own(tmp_path: Path) -> None:
    trials = [(0, 0, 0), (1, 1, 1)]
    path = write_sweep(tmp_path / "sweep", ["x", "y", "z"], trials, [[97.0], [98.0]])
    assert field_pictures(read_sweep(path), "title") == {}


def test_names_tell_values_apart(tmp_path: Path) -> None:
    shapes = [[{"neurons": 9}], [{"neurons": 9, "lanes": 3}]]
    formats = [{"bits": 8, "fraction": 7}, {"bits": 8, "fraction": 5}]
    trials = list(zip(shapes, formats, strict=True))
    sweep = read_sweep(write_sweep(tmp_path / "sweep", ["layers", "weight"], trials, [[97.0], [98.0]]))
    assert list(sweep.groups(["layers"])) == ["layers [{neurons: 9}]", "layers [{neurons: 9, lanes: 3}]"]
    assert list(sweep.groups(["weight"])) == ["weight {bits: 8, fraction: 7}", "weight {bits: 8, fraction: 5}"]
    # Equal bits are no number to draw against.
    assert field_pictures(sweep, "title") == {}


def test_unfinished_sweep(tmp_path: Path) -> None:
    states = ["complete", "failed", "complete", "repeated"]
    trials = [(n, seed) for n in (1, 2) for seed in (1, 2)]
    path = write_sweep(
        tmp_path / "sweep", ["n", "training.seed"], trials, [[97.0], [98.0], [96.0], [96.0]], states=states
    )
    (path / "sweep.toml").write_text('[vary]\nn = [1, 2, 3]\n"training.seed" = [1, 2]\n')
    sweep = read_sweep(path)
    assert sweep.missing == "3 of 6 trials missing (1 failed, 2 not run)"
    assert [c.best for c in sweep.configurations] == [97, 96]
    pictures, notes = plot_sweep.sweep_pictures(path)
    assert notes == [sweep.missing, f"{path} has no trials/, so there are no learning curves"]
    assert title(pictures["n"]) == f"1 seed\n{sweep.missing}"
    (path / "sweep.toml").write_text('trials = 7\n[vary]\nn = [1, 2, 3]\n"training.seed" = [1, 2]\n')
    assert read_sweep(path).missing == "11 of 14 trials missing (1 failed, 10 not run)"


def test_configurations_with_more_and_fewer_seeds(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep", ["n", "training.seed"], [(1, 1), (1, 2), (2, 1)], [[97.0], [98.0], [96.0]])
    sweep = read_sweep(path)
    assert sweep.seeds == "1 to 2 seeds"
    (points,) = bars(against(sweep, "n", [], "title").axes[0])
    assert_allclose(points, [[1, 97.5, np.sqrt(0.5)], [2, 96, np.nan]])


def test_order_of_colours() -> None:
    assert len(set(colours(8))) == 8
    for count in (1, 2, 9, 40):
        assert len(set(colours(count, ordered=True))) == count
    assert colours(40) == colours(40, ordered=True)
    assert all(colour == to_hex(colour) for colour in colours(40))


# -- the command -----------------------------------------------------------------------------------------------------


def test_command_draws_into_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", RNG.uniform(97, 98, (3, 2)))
    assert main(["plot", str(path), "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    files = [str(path / "learning.svg"), str(path / "confusion.svg")]
    assert out[:2] == files
    assert json.loads(out[2]) == {"files": files, "notes": []}
    first = [Path(file).read_bytes() for file in files]
    assert all(b"<svg" in text for text in first)
    assert main(["plot", str(path)]) == 0
    assert [Path(file).read_bytes() for file in files] == first


def test_command_draws_a_sweep_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trials = [(w, a) for w in (6, 8) for a in (3, 4)]
    accuracy = RNG.uniform(97, 98, (4, 1)).tolist()
    path = write_sweep(tmp_path / "sweep", ["weight.bits", "activation.bits"], trials, accuracy, runs=True)
    assert main(["plot", str(path), "--out", str(tmp_path / "new" / "out"), "--format", "png"]) == 0
    written = sorted((tmp_path / "new" / "out").iterdir())
    assert [file.name for file in written] == ["bits.png", "learning.png", "tradeoff.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written)


def test_folder_that_is_neither(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["plot", str(tmp_path)]) == RunError.exit_code
    assert f"{tmp_path}: neither a run nor a sweep; needed is a folder with metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", r"metrics.jsonl: not the metrics of a run: JSONDecodeError"),
        ("[]\n", r"metrics.jsonl: not the metrics of a run: TypeError"),
        ('{"epoch": 1}\n', r"metrics.jsonl: not the metrics of a run: KeyError\('test_accuracy"),
        ('{"epoch": 1, "test_accuracy[%]": null}\n', r"metrics.jsonl: no epoch is finished, at least one is needed"),
    ],
)
def test_damaged_run(tmp_path: Path, text: str, message: str) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0]]))
    (path / "metrics.jsonl").write_text(text)
    with pytest.raises(RunError, match=message):
        plot(path, path, "svg")


def test_report_without_origin(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0]]))
    Run(path).save_report({"spec": "digits"})
    with pytest.raises(RunError, match=r"report.json: 'data' is missing"):
        plot(path, path, "svg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trial,n\n0,1\n", r"trials.csv: not the trials of a sweep: ValueError.*'state'"),
        ("trial,state,n,epochs\n0,complete,1,3\n", r"not the trials of a sweep: KeyError\('weight_memory"),
        ("trial,state,n,epochs\n0,failed,1,3\n", r"trials.csv: none of 1 trial is complete, at least one is needed"),
    ],
)
def test_damaged_sweep(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "trials.csv").write_text(text)
    with pytest.raises(RunError, match=message):
        plot(tmp_path, tmp_path, "svg")


def test_damaged_sweep_file(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep", ["n"], [(1,)], [[97.0]])
    (path / "sweep.toml").write_text("trials = 3\n")
    with pytest.raises(RunError, match=r"sweep.toml: not the file of a sweep: KeyError\('vary'\)"):
        plot(path, path, "svg")


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", np.array([[90.0]]))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/learning.svg: cannot be written"):
        plot(path, tmp_path / "file", "svg")


def test_matplotlib_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ToolError, match=r"plot needs matplotlib: pip install 'locallearn\[plots\]'"):
        plot(tmp_path, tmp_path, "svg")
