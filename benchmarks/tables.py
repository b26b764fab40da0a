"""Tables of results, as Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["read_rows", "save_table"]


def read_rows(path: Path) -> list[list[str]]:
    """Those of a table that was saved, without its titles; none where there is no file."""
    return [line.strip("| \n").split(" | ") for line in path.open()][2:] if path.exists() else []


def save_table(path: Path, titles: Sequence[str], left: int, rows: Iterable[Iterable[object]]) -> None:
    """With so many columns aligned left, the others right."""
    lines = [titles, ["---"] * left + ["---:"] * (len(titles) - left), *(map(str, row) for row in rows)]
    path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
