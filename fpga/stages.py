"""A build in stages, each done once: what is finished is found again by the hash of all that it was made from."""

import fcntl
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from locallearn.fpga.tools import Tool
from locallearn.quant.errors import BuildError, LocalLearnError, ToolError

__all__ = ["BuildFolder", "Done", "Stage", "Watcher", "tool_stage"]

_LOG_LINES_SHOWN = 12
_SECONDS_TO_END = 5


class Watcher(Protocol):
    """Is told what goes on: the terminal, or whoever wants to know."""

    def stage(self, text: str) -> None:
        """A piece of work begins."""

    def rename(self, text: str) -> None:
        """The piece of work under way has come to another phase."""

    def say(self, text: str) -> None:
        """Something is done."""


@dataclass(frozen=True)
class Stage:
    """A step from some files of the build folder to others.

    name     a word or two; the log is named after it
    recipe   all that decides the outputs, besides what is in the inputs
    inputs   names of files in the build folder
    outputs  names of the files that it makes there
    work     makes them, in a folder with copies of the inputs and nothing else: given are that folder, the log, which
             need not be written, and what is told the name of each phase
    """

    name: str
    recipe: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    work: Callable[[Path, Path, Callable[[str], None]], None]


@dataclass(frozen=True)
class Done:
    """A finished stage.

    key      hash of recipe and inputs
    outputs  hashes of the files, by name
    seconds  that it took
    date     when it was done, ISO 8601
    """

    key: str
    outputs: dict[str, str]
    seconds: float
    date: str


def tool_stage(
    name: str,
    tool: Tool,
    arguments: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    phase: Callable[[str], str | None] = lambda line: None,
    diagnose: Callable[[str], LocalLearnError | None] = lambda log: None,
) -> Stage:
    """A stage that runs a tool; files are named as they are in the build folder.

    phase     from a line that the tool prints to the name of the phase that begins there, if one does
    diagnose  from all that a failed tool said to the error, if it is the user's to mend

    The stage raises ToolError, with the end of what the tool said, where it fails otherwise.
    """

    def work(folder: Path, log: Path, enter: Callable[[str], None]) -> None:
        def hear(line: str) -> None:
            if entered := phase(line):
                enter(entered)

        status = _run((*tool.command, *arguments), folder, log, hear)
        missing = [output for output in outputs if not (folder / output).exists()]
        if status == 0 and not missing:
            return
        said = log.read_text()
        if error := diagnose(said):
            raise error
        result = f"exit status {status}" if status else f"it made no {missing[0]}"
        last = "\n".join(said.splitlines()[-_LOG_LINES_SHOWN:])
        raise ToolError(f"{tool.name} failed ({result}, full log in {log}):\n{last}")

    return Stage(name, (tool.name, tool.version, *arguments), inputs, outputs, work)


class BuildFolder:
    """The folder of a build; a context manager that keeps other builds out of it.

    A finished stage leaves its outputs, its log and a record in `.stages`; one that fails or is interrupted leaves its
    log at most, and what an earlier build had there. Raises BuildError where the folder cannot be written, or another
    build is at work in it.
    """

    def __init__(self, path: Path, watcher: Watcher) -> None:
        self.path = path
        self._watcher = watcher
        self._records = path / ".stages"
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            self._lock = (self._records / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"{self.path}: another build is at work here; name another folder with --out") from None
        except OSError as error:
            raise BuildError(f"{self.path}: cannot be written: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock
        self._lock.close()
        if isinstance(error, OSError):
            raise BuildError(f"{error.filename or self.path}: cannot be written: {error.strerror}") from None

    def run(self, stage: Stage) -> Done:
        """Do the stage, unless it is done."""
        key = sha256(json.dumps([stage.recipe, self._hashes(stage.inputs)]).encode()).hexdigest()
        record = self._records / f"{_file_name(stage)}.json"
        done = _read(record)
        if done and done.key == key and done.outputs == self._hashes(stage.outputs):
            self._watcher.say(f"{stage.name:16}{'as before':>12}")
            return done

        begun = time.monotonic()
        self._watcher.stage(stage.name)
        self._make(stage)
        seconds = round(time.monotonic() - begun, 2)
        done = Done(
            key, self._hashes(stage.outputs), seconds, datetime.now().astimezone().isoformat(timespec="seconds")
        )
        record.write_text(json.dumps(asdict(done), indent=2) + "\n")
        self._watcher.say(f"{stage.name:16}{done.seconds:10.1f} s")
        return done

    def _make(self, stage: Stage) -> None:
        """The outputs appear when all of them are whole."""
        folder = self._records / "unfinished"
        shutil.rmtree(folder, ignore_errors=True)  # of a build that was killed
        folder.mkdir()
        try:
            for name in stage.inputs:
                # Copies, since YoWASP's tools see no file of another folder, be it by a link.
                shutil.copyfile(self.path / name, folder / name)
            log = (self.path / f"{_file_name(stage)}.log").absolute()
            stage.work(folder, log, lambda phase: self._watcher.rename(f"{stage.name}: {phase}"))
            for name in stage.outputs:
                (folder / name).replace(self.path / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _hashes(self, names: tuple[str, ...]) -> dict[str, str]:
        """Of those files that are there."""
        hashes = {}
        for name in names:
            with suppress(FileNotFoundError), (self.path / name).open("rb") as file:
                hashes[name] = file_digest(file, "sha256").hexdigest()
        return hashes


def _file_name(stage: Stage) -> str:
    return stage.name.replace(" ", "-")


def _read(record: Path) -> Done | None:
    """None where there is no record, or only what a full disk or another release left of one."""
    try:
        return Done(**json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _run(command: tuple[str, ...], folder: Path, log: Path, hear: Callable[[str], None]) -> int:
    """The exit status of a command that is run in `folder`, with all it says in `log` and told line by line."""
    try:
        # A session of its own keeps the terminal's Ctrl-C from the tool, which gets it from here, and once.
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{command[0]}: cannot be started: {error.strerror}") from None
    assert process.stdout
    try:
        with process.stdout, log.open("w", encoding="utf-8") as kept:
            for line in process.stdout:
                kept.write(line)
                hear(line)
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does, after which tools tidy up; by force if that takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
