"""What can go wrong for the user, each with its own exit code.

The command line catches `LocalLearnError`, prints it as one line and exits with `exit_code`; every
message says what was given and what is needed. Anything else that escapes is a bug and shows its traceback.
"""

__all__ = [
    "BuildError",
    "DataError",
    "DeviceError",
    "InterruptedRun",
    "LocalLearnError",
    "Mismatch",
    "ModelError",
    "RunError",
    "SpecError",
    "StateLost",
    "ToolError",
    "UsageError",
]


class LocalLearnError(Exception):
    """Base of every error that a user can mend."""

    exit_code = 1


class UsageError(LocalLearnError):
    """Arguments that do not go together."""

    exit_code = 2


class SpecError(LocalLearnError):
    """The network description is impossible, or cannot be read."""

    exit_code = 3


class DataError(LocalLearnError):
    """A data set is missing, damaged, or does not fit the network."""

    exit_code = 4


class ToolError(LocalLearnError):
    """A tool (compiler, Verilator, yosys, nextpnr) is missing or failed."""

    exit_code = 5


class DeviceError(LocalLearnError):
    """The chip cannot be reached, stopped answering, or was built from another description."""

    exit_code = 6


class StateLost(DeviceError):
    """The chip answers, but was reset: what it had learned is gone."""


class RunError(LocalLearnError):
    """A run folder is missing, incomplete, or cannot be written."""

    exit_code = 7


class Mismatch(LocalLearnError):
    """Chip and golden model differ."""

    exit_code = 8


class BuildError(LocalLearnError):
    """A network does not fit a board or its clock, or a build folder cannot be read or written."""

    exit_code = 9


class ModelError(LocalLearnError):
    """A model of another framework cannot be read, or is not a network that a chip can be."""

    exit_code = 10


class InterruptedRun(LocalLearnError):
    """Stopped by Ctrl-C or SIGTERM after everything learned so far was saved."""

    exit_code = 130
