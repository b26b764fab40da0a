"""The machine that this runs on, as reports name it."""

import os
import platform
import re
from pathlib import Path

__all__ = ["cores", "processor"]


def processor() -> str:
    """Its maker's name for it, where the system says."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def cores() -> int:
    """That this process may use; not every system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
