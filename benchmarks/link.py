"""How much of a line the link uses, and what altered bytes cost it.

    python -m benchmarks.link

Both ends, the host's as it is and the chip's as the tests have it (equal to the RTL by tests/rtl/test_link.py), in a
time of their own: a serial line of 3 Mbaud each way, whose bytes come after a latency (of a USB bridge and the system:
1 to 16 ms), a host that sends 1 MB of samples and a chip that takes them at once and answers 9 bytes for each 256.
Each byte of either direction is altered by a chance. Writes results/link.md: the stream's bytes for each that the line
could have carried.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from rich.progress import track

from benchmarks.tables import save_table
from locallearn.host.endpoint import Endpoint
from tests.chip_end import ChipEnd
from tests.noise import Noise

TABLE = Path(__file__).parent / "results" / "link.md"

BYTES_PER_S = 300_000
STEP_S = 0.00025
STREAM = 1_000_000

LATENCIES_MS = (1, 4, 16)
BUFFERS = (1024, 2048, 4096)
RATES = (0, 1e-5, 1e-4, 1e-3)


class Wire:
    """One direction: what is written waits for its turn, and arrives a latency later, altered by chance."""

    def __init__(self, latency_s: float, noise: Callable[[bytes], bytes]) -> None:
        self._waiting = bytearray()
        self._on_its_way = [b""] * round(latency_s / STEP_S)
        self._noise = noise

    def step(self, data: bytes) -> bytes:
        """What arrives in this step, in which `data` is written."""
        self._waiting += data
        count = round(BYTES_PER_S * STEP_S)
        self._on_its_way.append(self._noise(bytes(self._waiting[:count])))
        del self._waiting[:count]
        return self._on_its_way.pop(0)


def used(latency_ms: float, link_bytes: int, rate: float) -> float:
    """The share of the line that the stream has."""
    random, taken = Random(1), 0

    def behind(byte: int) -> bytes:
        nonlocal taken
        taken += 1
        return bytes(9) if taken % 256 == 0 else b""

    chip = ChipEnd(behind, link_bytes)
    there, back = (Wire(latency_ms / 1000, partial(Noise(flip=rate), rng=random)) for _ in range(2))
    host, step, answer = Endpoint(1, 0.0), 0, b""
    host.write(random.randbytes(STREAM))
    while taken < STREAM:
        answer = chip.take(there.step(host.to_send(step * STEP_S)))
        step += 1
        host.tell(back.step(answer), step * STEP_S)
    return STREAM / (step * STEP_S * BYTES_PER_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    cases = [(latency, buffer) for latency in LATENCIES_MS for buffer in BUFFERS]
    rows = []
    for latency, buffer in track(cases, "lines"):
        shares = [used(latency, buffer, rate) for rate in RATES]
        lost = 100 * (1 - shares[1] / shares[0])
        rows.append([latency, buffer, *(f"{100 * share:.1f}" for share in shares), f"{lost:.2f}"])
    titles = ["latency [ms]", "buffer [bytes]", *(f"altered {rate:g} [%]" for rate in RATES), "lost at 1e-05 [%]"]
    save_table(TABLE, titles, 0, rows)
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
