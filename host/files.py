"""Files that others may read while they are written, and that a kill must not spoil."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from locallearn.quant.errors import RunError

__all__ = ["Replacing", "append_record", "write_record"]


class Replacing:
    """Write beside the file and move it into place, so that a reader sees the old one or the whole new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.partial{path.suffix}")

    def __enter__(self) -> Path:
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            try:
                self._temporary.replace(self._path)
            except OSError as failure:
                error = failure
        if error is not None:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"{self._path}: cannot be written: {error.strerror}") from None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """As indented JSON, in the place of what was there. Raises RunError where it cannot be written."""
    with Replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """As a line of JSON. Raises RunError where it cannot be written."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None
