"""What the tests of the float references share. They need torch: `pytest -m torch`."""

from importlib.util import find_spec

# Without torch these modules cannot even be imported. `pytest -m torch` then finds no test here and fails on those
# of the bench command, so nobody takes it for a pass.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
