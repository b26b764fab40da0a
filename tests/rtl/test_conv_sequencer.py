"""The order of a convolution's passes against loops over its windows."""

import math
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ReadOnly, RisingEdge
from numpy.typing import NDArray

from locallearn.quant.conv import ConvWeights
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.spec import ConvSpec, InputSpec, NetworkSpec
from locallearn.rtl.conv_sequencer import ConvSequencer, token_layout
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import STALLS, pace, unpack
from tests.rtl.conftest import Bench

Ints = NDArray[np.int64]
Token = dict[str, Any]


def any_input(plan: ConvPlan) -> Ints:
    rng = np.random.default_rng(random.getrandbits(32))
    x = rng.integers(1, 200, plan.input_map)
    x[rng.random(x.shape) >= random.choice((0, 0.1, 0.5, 1))] = 0
    return x


async def serve(dut: Any, plan: ConvPlan, x: Ints) -> None:
    """The map buffer's masks, two cycles after they are asked for."""
    answers = [(0, 0), (0, 0)]
    while True:
        await RisingEdge(dut.clk)
        dut.pixel.value, dut.columns.value = answers.pop(0)
        await ReadOnly()
        answers.append((pixel_word(dut, plan, x), columns_word(dut, plan, x)))


def pixel_word(dut: Any, plan: ConvPlan, x: Ints) -> int:
    address, words = asked(dut, "pixel"), (plan.channel_words - 1).bit_length()
    part, pixel = address % (1 << words), address >> words
    column, row = pixel % (1 << plan.column_bits), pixel >> plan.column_bits
    if row >= plan.input_map[0] or column >= plan.input_map[1]:
        return random.getrandbits(plan.channel_word)
    return word(x[row, column, part * plan.channel_word :], plan.channel_word)


def columns_word(dut: Any, plan: ConvPlan, x: Ints) -> int:
    address, words = asked(dut, "columns"), (plan.column_words - 1).bit_length()
    part, line = address % (1 << words), address >> words
    row, channel = line % (1 << plan.row_bits), line >> plan.row_bits
    if row >= plan.input_map[0] or channel >= plan.input_map[2]:
        return random.getrandbits(plan.column_word)
    return word(x[row, part * plan.column_word :, channel], plan.column_word)


def asked(dut: Any, name: str) -> int:
    port = getattr(dut, f"{name}_at", None)
    return 0 if port is None or not port.value.is_resolvable else int(port.value)


def word(numbers: Ints, width: int) -> int:
    return sum(1 << bit for bit, number in enumerate(numbers[:width]) if number)


def forward_tokens(plan: ConvPlan, x: Ints) -> Iterator[Token]:
    """Of every window, place by place, group by group."""
    places = plan.conv.pool**2
    windows = every_window(plan, x)
    for first in range(0, len(windows), places):
        for group in range(plan.groups):
            for window in windows[first : first + places]:
                base = group * plan.fan_in
                met = [i for i, (at, value) in enumerate(window) if value]
                for i in met:
                    yield {"row": base + i, "at": window[i][0], "first": i == met[0], "last": False, "constant": False}
                yield {"row": base + plan.fan_in - 1, "first": not met, "last": True, "constant": True}


def every_window(plan: ConvPlan, x: Ints) -> list[list[tuple[tuple[int, int, int], int]]]:
    """In the golden model's order: where each input of the window is, and its value."""
    numbered = np.arange(1, plan.inputs + 1)
    windows = ConvWeights(plan).windows(numbered)[:, :-1]
    flat = x.ravel()
    return [
        [
            (tuple(map(int, np.unravel_index(n - 1, plan.input_map))) if n else (0, 0, 0), int(flat[n - 1]) if n else 0)
            for n in window
        ]
        for window in windows.tolist()
    ]


def gradient_tokens(plan: ConvPlan, x: Ints, live: int) -> Iterator[Token]:
    """Of every weight, all places in order of rows; then its update."""
    rows, columns, _ = plan.convolved_map
    windows = dict(zip(every_place(plan), every_window(plan, x), strict=True))
    for group in range(plan.groups):
        if not live >> group & 1:
            continue
        for i in range(plan.fan_in):
            fresh = True
            for place in ((row, column) for row in range(rows) for column in range(columns)):
                constant = i == plan.fan_in - 1
                at, value = ((0, 0, 0), 1) if constant else windows[place][i]
                if value:
                    token = {"learn": True, "place": place, "group": group, "first": fresh, "constant": constant}
                    yield token if constant else token | {"at": at}
                    fresh = False
            yield {"update": True, "row": group * plan.fan_in + i, "empty": fresh}


def every_place(plan: ConvPlan) -> list[tuple[int, int]]:
    """Row and column, in the order of windows: pool by pool."""
    rows, columns, _ = plan.convolved_map
    pool = plan.conv.pool
    return [
        (row + below, column + right)
        for row in range(0, rows, pool)
        for column in range(0, columns, pool)
        for below in range(pool)
        for right in range(pool)
    ]


def seen(plan: ConvPlan, token: Token) -> Token:
    """What of a token counts."""
    at, place, pool = token["value_at"], token["place"], plan.conv.pool
    pixel = {"at": (at["row"], at["column"], at["channel"])} if not token["constant"] else {}
    if token["update"]:
        return {"update": True, "row": token["row"], "empty": bool(token["empty"])}
    common = {"first": bool(token["first"]), "constant": bool(token["constant"])} | pixel
    if token["learn"]:
        where = place["row"] * pool + place["below"], place["column"] * pool + place["right"]
        return {"learn": True, "place": where, "group": token["group"]} | common
    return {"row": token["row"], "last": bool(token["last"])} | common


async def tokens(dut: Any, plan: ConvPlan, stall: str) -> list[Token]:
    """Until the pass is over; there is room for a sum in some cycles."""
    found: list[Token] = []
    turns, layout = pace(stall if stall != "reluctant" else "random", random.getrandbits(32)), token_layout(plan)
    begun = cycle()
    while True:
        dut.room.value, dut.turn.value = turns(False), random.random() < 0.8
        await ReadOnly()
        if dut.issue.value:
            found.append(seen(plan, unpack(layout, int(dut.token.value))))
        if dut.done.value:
            await RisingEdge(dut.clk)
            return found
        await RisingEdge(dut.clk)
        assert cycle() - begun < 500_000, f"cycle {cycle()}: expected an end, actual {len(found)} tokens"


@cocotb.test()
@cocotb.parametrize(stall=STALLS)
async def both_passes_in_order(dut: Any, stall: str) -> None:
    plan = parameters()
    await start(dut)
    for _ in range(2):
        x = any_input(plan)
        serving = cocotb.start_soon(serve(dut, plan, x))
        live = random.getrandbits(plan.groups)
        dut.live.value = live
        for name, expected in (
            ("forward", list(forward_tokens(plan, x))),
            ("gradient", list(gradient_tokens(plan, x, live))),
        ):
            getattr(dut, name).value = 1
            await RisingEdge(dut.clk)
            getattr(dut, name).value = 0
            actual = await tokens(dut, plan, stall)
            for number, (wanted, given) in enumerate(zip(expected, actual, strict=False)):
                assert wanted == given, f"{name}, token {number}: expected {wanted}, actual {given}"
            assert len(expected) == len(actual), f"{name}: expected {len(expected)} tokens, actual {len(actual)}"
        serving.cancel()


def plan_of(shape: tuple[int, int, int], *layer: int, **choices: Any) -> ConvPlan:
    spec = ConvSpec(*layer, resolution=0, **choices)
    return ConvPlan(NetworkSpec("", 3, InputSpec(math.prod(shape), shape=shape), (spec,)), 0)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(plan_of((3, 6, 6), 5, pool=2, lanes=2), id="pool, 3 groups"),
        pytest.param(plan_of((2, 7, 5), 2, 3, 2), id="stride 2"),
        pytest.param(plan_of((1, 4, 18), 3, 2, padding=1), id="two words of columns"),
        pytest.param(plan_of((20, 3, 3), 2, 3, padding=2, pool=2, lanes=2), id="two words of channels"),
        pytest.param(plan_of((1, 3, 3), 2, 3, padding=2), id="more places than columns"),
        pytest.param(plan_of((1, 1, 1), 1, 1), id="a single pixel"),
        pytest.param(plan_of((2, 6, 9), 4, 5, 2, pool=2), id="5x5, stride 2, pool"),
    ],
)
def test_conv_sequencer(bench: Bench, plan: ConvPlan) -> None:
    bench(ConvSequencer(plan), plan)
