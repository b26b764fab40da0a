"""How a bench runs: from the pytest function beside its cocotb tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.lib import wiring

from locallearn.sim.bench import run_bench

__all__ = ["Bench"]

Bench = Callable[..., None]


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, benches: Path) -> Bench:
    """Call it with a component and parameters, and with its Verilog if it is not the usual one: the cocotb tests of
    the calling module run on it."""

    def run(component: "wiring.Component[Any]", parameters: object = None, verilog: str | None = None) -> None:
        run_bench(component, request.module.__name__, tmp_path, benches, parameters, verilog)

    return run
