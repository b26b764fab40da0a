"""What is installed only where it was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from locallearn.quant.errors import ToolError

__all__ = ["needing"]


@contextmanager
def needing(command: str, package: str, title: str, extra: str) -> Iterator[None]:
    """For imports: raises ToolError, naming the extra, where it is `package` that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise ToolError(f"{command} needs {title}: pip install 'locallearn[{extra}]'") from None
