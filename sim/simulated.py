"""The chip as a process on this machine: its Verilog compiled, started, reached over a local socket."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from locallearn.quant.errors import ToolError
from locallearn.sim.build import build
from locallearn.sim.compiler import Compiler

__all__ = ["SimulatedChip"]

# The simulator looks at its stdin between stretches of at most some thousand cycles.
_SECONDS_TO_END = 10


class SimulatedChip:
    """A simulated chip that runs from construction to `close()`, and not beyond the end of this process.

    url  where it is reached, one client at a time: "socket://127.0.0.1:PORT", for pyserial's serial_for_url
    pid  the simulator's process

    Raises ToolError if the chip cannot be built or started; `verilog` and the options are those of `build`.
    """

    def __init__(
        self,
        verilog: str,
        *,
        port: int = 0,
        cache_dir: Path | None = None,
        compiler: Compiler | None = None,
        optimise: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Build and start the chip; it listens on `port` of the loopback interface, 0 is any free one."""
        executable = build(verilog, cache_dir, compiler, optimise, progress)
        # A session of its own keeps the terminal's Ctrl-C from it: the host saves what the chip has learned,
        # then ends it. It ends by itself when its stdin does, however this process dies.
        try:
            self._process = subprocess.Popen(
                [executable, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"The simulated chip cannot be started: {error}") from error
        self.pid = self._process.pid
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        greeting = self._process.stdout.readline().split()
        if len(greeting) != 2:
            said = self._process.stderr.read().decode(errors="replace").strip()
            self.close()
            status = self._process.returncode
            raise ToolError(f"The simulated chip ended at its start (exit status {status}): {said}")
        self.url = f"socket://127.0.0.1:{int(greeting[1])}"

    def close(self) -> None:
        """End the simulator and wait for its end; closing twice is harmless."""
        stdin, *outputs = self._pipes
        stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for output in outputs:
            output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
