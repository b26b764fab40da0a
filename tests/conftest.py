"""Settings of all tests."""

from hypothesis import settings

# Examples build networks and chips: their time says nothing but how busy the machine is.
settings.register_profile("locallearn", deadline=None)
settings.load_profile("locallearn")
