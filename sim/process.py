"""A simulator as a process that does not outlive this one."""

import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from locallearn.quant.errors import ToolError

__all__ = ["SimulatorProcess"]

# The simulator looks at its stdin between stretches of at most some thousand cycles.
_SECONDS_TO_END = 10


class SimulatorProcess:
    """A simulated chip that runs from construction to `close()`, and not beyond the end of this process.

    port  what it said at its start of where it can be reached
    pid   its process

    Raises ToolError if it cannot be started.
    """

    def __init__(self, executable: Path, argument: str) -> None:
        # A session of its own keeps the terminal's Ctrl-C from it: the host saves what the chip has learned,
        # then ends it. It ends by itself when its stdin does, however this process dies.
        try:
            self._process = subprocess.Popen(
                [executable, argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"The simulated chip cannot be started: {error}") from error
        self.pid = self._process.pid
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr
        greeting = self._stdout.readline().decode().split()
        if len(greeting) != 2:
            said = self._stderr.read().decode(errors="replace").strip()
            self.close()
            status = self._process.returncode
            raise ToolError(f"The simulated chip ended at its start (exit status {status}): {said}")
        self.port = greeting[1]

    def ask(self) -> str:
        """What it says of itself, in one line; nothing if it has ended."""
        with suppress(BrokenPipeError):
            self._stdin.write(b"?")
        return self._stdout.readline().decode()

    def close(self) -> None:
        """End the simulator and wait for its end; closing twice is harmless."""
        self._stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
