"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes says nothing but how busy the machine is.
settings.register_profile("locallearn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("locallearn")
