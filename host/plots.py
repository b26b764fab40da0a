"""Pictures of a run's or a sweep's folder, as files."""

from dataclasses import dataclass
from pathlib import Path

from locallearn.host.extras import needing
from locallearn.host.plot_data import METRICS
from locallearn.host.plot_sweep_data import TRIALS
from locallearn.quant.errors import RunError

__all__ = ["FORMATS", "Drawn", "plot"]

FORMATS = ("svg", "png")


@dataclass(frozen=True)
class Drawn:
    """The files that were written, and sentences about what is missing."""

    files: list[Path]
    notes: list[str]


def plot(folder: Path, out: Path, kind: str) -> Drawn:
    """Draw all that is known of `folder` into `out` as files of `kind` (one of FORMATS).

    Raises RunError where the folder is neither a run nor a sweep, is damaged, or `out` cannot be written;
    ToolError where matplotlib is missing.
    """
    with needing("plot", "matplotlib", "matplotlib", "plots"):
        from matplotlib import rc_context

        from locallearn.host.plot_axes import STYLE
        from locallearn.host.plot_run import run_pictures
        from locallearn.host.plot_sweep import sweep_pictures
    with rc_context(STYLE):
        if (folder / TRIALS).is_file():
            pictures, notes = sweep_pictures(folder)
        elif (folder / METRICS).is_file():
            pictures, notes = run_pictures(folder)
        else:
            raise RunError(
                f"{folder}: neither a run nor a sweep; needed is a folder with {METRICS} (train makes it) "
                f"or {TRIALS} (sweep makes it)"
            )
        files = []
        for name, figure in pictures.items():
            path = out / f"{name}.{kind}"
            try:
                out.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=200, metadata={"Date": None} if kind == "svg" else None)
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}") from None
            files.append(path)
    return Drawn(files, notes)
