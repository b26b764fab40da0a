"""Several components in one bench: there is one simulation to build instead of many."""

from collections.abc import Iterable
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

__all__ = ["Shelf"]


class Shelf(wiring.Component):
    """Components side by side; member `name` of number i is the port `item_{i}__{name}`."""

    def __init__(self, items: "Iterable[wiring.Component[Any]]") -> None:
        self._items = list(items)
        super().__init__({f"item_{i}": Out(item.signature) for i, item in enumerate(self._items)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, item in enumerate(self._items):
            m.submodules[f"item_{i}"] = item
            wiring.connect(m, wiring.flipped(getattr(self, f"item_{i}")), item)
        return m
