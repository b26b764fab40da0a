"""The link between the host's end and a stand-in for the chip, over lines with all kinds of noise, in bulk."""

from itertools import product
from pathlib import Path
from random import Random

import pytest

from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip
from tests.noise import Noise
from tests.rtl.linked_echo import LinkedAnswerer, answers
from tests.rtl.noisy_line import NoisyHost, connect

CHIPS = {
    "echo, smallest": (1024, 0, 0),
    "slow": (1024, 0, 250),
    "slow and talks": (2048, 10, 20),
    "echo, largest": (32768, 0, 0),
    "talks a lot, largest": (32768, 20, 0),
}
"""Bytes of the link, answers to each byte beside the first, cycles between them at most."""

SIZES = {0: 300_000, 250: 3_000, 20: 20_000}
"""Bytes towards the host without noise, by the last of these."""

NOISES = {
    "none": Noise(),
    "bits": Noise(flip=1e-3),
    "losses": Noise(drop=5e-4, cut=2e-5),
    "too much": Noise(insert=5e-4, double=5e-4, repeat=1e-4),
    "all": Noise(2e-4, 2e-4, 2e-4, 2e-4, 2e-5, 5e-5),
    "mostly broken": Noise(flip=4e-3, repeat=2e-4, cut=2e-4),
}

SHARES = {"none": 1, "mostly broken": 30}
"""By what part fewer they are with other noises than 4."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulators")


@pytest.mark.parametrize("kind", CHIPS)
def test_streams_come_out_as_they_went_in(cache: Path, kind: str) -> None:
    """A session for each noise; all of it is sent ahead, as far as the chip lets the host."""
    link_bytes, talk, rest = CHIPS[kind]
    with (
        SimulatedChip(to_verilog(LinkedAnswerer(link_bytes, talk, rest)), cache_dir=cache) as chip,
        connect(chip.url) as line,
    ):
        for seed, name in enumerate(NOISES):
            rng = Random(f"{kind} {name} {seed}")
            host = NoisyHost(line, rng, NOISES[name])
            host.open()
            size = SIZES[rest] // SHARES.get(name, 4)
            data = any_bytes(rng, size // (talk + 1))
            host.end.write(data)
            expected = answers(data, talk)
            actual = host.hear(len(expected))
            assert actual == expected, f"{name}: {first_difference(actual, expected)}"
            assert not host.end.received, f"{name}: more than was expected"
            if name == "none":
                counters = host.end.counters
                assert (counters.bad, counters.missed) == (0, 0), counters


def any_bytes(rng: Random, size: int) -> bytes:
    """Stretches of noise, and of bytes that must be escaped."""
    data = bytearray()
    while len(data) < size:
        length = rng.randint(1, 2000)
        data += rng.choice([rng.randbytes(length), bytes(rng.choices(b"\x7d\x7e\x5d\x5e", k=length))])
    return bytes(data[:size])


def first_difference(actual: bytes, expected: bytes) -> str:
    at = next(number for number, (a, e) in enumerate(zip(actual, expected, strict=True)) if a != e)
    return f"byte {at}: expected {expected[at]}, actual {actual[at]}"


@pytest.mark.parametrize("kind", ["echo, smallest", "slow and talks"])
def test_sessions_that_are_given_up(cache: Path, kind: str) -> None:
    """Each anywhere, with much under way, over a noisy line; the next one hears only what is its own. Nothing that was
    said in a session comes again in the next: that would mean that another host has taken the chip."""
    link_bytes, talk, rest = CHIPS[kind]
    with (
        SimulatedChip(to_verilog(LinkedAnswerer(link_bytes, talk, rest)), cache_dir=cache) as chip,
        connect(chip.url) as line,
    ):
        for seed, name in product(range(15), ("none", "losses")):
            rng = Random(f"{kind} {name} {seed}")
            host = NoisyHost(line, rng, NOISES[name])
            host.open()
            data = any_bytes(rng, rng.randint(1, 4000) // (talk + 1) + 1)
            host.end.write(data)
            expected = answers(data, talk)
            size = rng.randint(0, min(2000, len(expected)))
            actual = host.hear(size)
            assert actual == expected[:size], f"{name}, {seed}: {first_difference(actual, expected[:size])}"
