"""Checks of what users write: each raises SpecError, saying what was given and what is needed."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from locallearn.quant.errors import SpecError

__all__ = ["check_choice", "check_int", "check_keys", "check_number", "check_whole"]


def check_whole(what: str, value: object) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError(f"{what} = {value!r}: must be a whole number")
    return value


def check_int(what: str, value: object, low: int, high: int) -> None:
    """A whole number from `low` to `high`."""
    if not low <= check_whole(what, value) <= high:
        raise SpecError(f"{what} = {value}: must be between {low} and {high}")


def check_number(what: str, value: object, low: float, high: float, below: bool = False) -> None:
    """A number from `low` to `high`, or to `below` that."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number <= high or (below and number == high):
        raise SpecError(f"{what} = {value!r}: must be a number from {low} to {'below ' * below}{high}")


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """One of some words."""
    if value not in choices:
        raise SpecError(f"{what} = {value!r}: must be one of {', '.join(choices)}")


def check_keys(where: str, table: dict[str, Any], known: set[str], needed: set[str]) -> None:
    """A `table` whose keys are all known, and has those that are needed; `where` stands before a key."""
    for key in table:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f", did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
            raise SpecError(f"unknown key {where}{key}{hint}")
    for key in sorted(needed - set(table)):
        raise SpecError(f"{where}{key} is missing")
