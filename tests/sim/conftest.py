"""What the tests of the simulated chip share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of simulators of this session's own: nothing in it was built by other code."""
    return tmp_path_factory.mktemp("simulators")
