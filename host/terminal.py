"""What the user sees: results on stdout, progress bars on stderr."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from locallearn.host.train import Display

__all__ = ["Terminal"]


class Terminal(Display):
    """A context manager; bars show only where stderr is a terminal, and vanish when it closes."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        if not self._out.is_terminal:
            # Nothing that a file or a pipe gets is cut off.
            self._out.width = 10_000
        progress = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=progress,
            transient=True,
            disable=not progress.is_terminal,
        )
        self._current: TaskID | None = None

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._out.print(text, markup=False)

    def stage(self, text: str) -> None:
        """A piece of work of unknown length begins."""
        self._begin(text, None)

    def task(self, text: str, total: int) -> Callable[[int], None]:
        task = self._begin(text, total)
        return lambda done: self._bars.update(task, completed=done)

    def rename(self, text: str) -> None:
        """The piece of work under way has another name from now on."""
        assert self._current is not None
        self._bars.update(self._current, description=text)

    def show(self, table: Table) -> None:
        """A table as wide as it needs, or as the terminal is."""
        self._out.print(table, soft_wrap=False, crop=False)

    def initial(self, accuracy: list[float]) -> None:
        self.say(f"initial    {accuracies(accuracy)}")

    def epoch(self, metrics: dict[str, Any]) -> None:
        if metrics["test_accuracy[%]"] is None:
            self.say(f"epoch {metrics['epoch']}: interrupted after {metrics['samples']} samples")
            return
        cycles = metrics["cycles_per_sample"]
        self.say(
            f"epoch {metrics['epoch']:2}   {accuracies(metrics['test_accuracy[%]'])}   "
            f"{metrics['throughput[samples/s]']:7.0f} samples/s"
            + ("" if cycles is None else f"  {cycles:7.1f} cycles/sample")
            + f"   learned from {100 * max(metrics['learned_fraction']):3.0f} %"
        )

    def lost(self, text: str) -> None:
        self.say(text)

    def _begin(self, text: str, total: int | None) -> TaskID:
        if self._current is not None:
            self._bars.remove_task(self._current)
        self._current = self._bars.add_task(text, total=total)
        return self._current


def accuracies(per_layer: list[float]) -> str:
    """Every layer's accuracy, in per cent."""
    return "held out: " + "  ".join(f"layer {i} {value:.2f} %" for i, value in enumerate(per_layer))
