"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing but how busy the machine is.
settings.register_profile("locallearn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("locallearn")


@pytest.fixture
def benches(request: pytest.FixtureRequest) -> Path:
    """Simulations of benches are kept in pytest's own cache, so that only what has changed is built again;
    `pytest --cache-clear` empties it."""
    folder: Path = request.config.cache.mkdir("benches")
    return folder
