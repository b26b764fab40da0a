"""The simulator's own UART against the times that its bits should have."""

import subprocess
from fractions import Fraction
from math import ceil
from pathlib import Path
from random import Random

import pytest

from locallearn.sim.compiler import find_compiler

SOURCE = Path(__file__).with_name("far_end.cpp")
HEADERS = Path(__file__).parents[2] / "sim"
UNIT = 1 << 32

CYCLES = {"4 cycles a bit": 4.0, "8 and a bit": 8.3, "many": 868.06}


class FarEnd:
    def __init__(self, executable: Path) -> None:
        self._executable = executable

    def __call__(self, data: bytes, send: int, hear: int) -> tuple[list[int], bytes, int]:
        """The cycles in which the wire changes, what is heard, and framing errors."""
        command = [self._executable, str(send), str(hear)]
        said = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
        edges, heard, errors = said.splitlines()
        return [int(edge) for edge in edges.split()], bytes(map(int, heard.split())), int(errors)


@pytest.fixture(scope="module")
def far_end(tmp_path_factory: pytest.TempPathFactory) -> FarEnd:
    executable = tmp_path_factory.mktemp("far_end") / "far_end"
    compiler = [*find_compiler().command, "-std=c++17", "-O1", "-I", str(HEADERS)]
    subprocess.run([*compiler, str(SOURCE), "-o", str(executable)], check=True)
    return FarEnd(executable)


@pytest.mark.parametrize("cycles", CYCLES.values(), ids=CYCLES)
def test_bits_change_in_their_cycle(far_end: FarEnd, cycles: float) -> None:
    """In the first one at or after their time, at the end of 3,000 bytes without a pause as at the start."""
    data = Random(1).randbytes(3_000)
    levels = [1]
    for byte in data:
        levels += [0, *(byte >> place & 1 for place in range(8)), 1]
    bit = Fraction(int(cycles * UNIT), UNIT)
    expected = [ceil(place * bit) for place in range(len(levels) - 1) if levels[place] != levels[place + 1]]
    edges, _, _ = far_end(data, int(cycles * UNIT), int(cycles * UNIT))
    assert edges == expected


@pytest.mark.parametrize("cycles", CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("error", [0, 0.02, -0.02])
def test_hears_what_was_sent(far_end: FarEnd, cycles: float, error: float) -> None:
    """Even where a cycle is a quarter of a bit."""
    data = bytes(range(256)) + Random(1).randbytes(1_000)
    _, heard, errors = far_end(data, int(cycles * (1 + error) * UNIT), int(cycles * UNIT))
    assert (heard, errors) == (data, 0)


@pytest.mark.parametrize("error", [0.08, -0.08])
def test_other_rates_are_framing_errors(far_end: FarEnd, error: float) -> None:
    data = bytes(range(256))
    _, heard, errors = far_end(data, int(8.3 * (1 + error) * UNIT), int(8.3 * UNIT))
    assert errors > 20
    assert heard != data
