"""From the word on the command line to a device: `sim`, `model`, `numpy`, or the address of a chip."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from locallearn.host.device import ChipDevice, Device, ModelDevice
from locallearn.host.link import DEFAULT_BAUD, Link
from locallearn.quant.network import GoldenNetwork, Model
from locallearn.quant.spec import NetworkSpec

__all__ = ["connect", "fastest_model"]


def fastest_model() -> Callable[[NetworkSpec], Model]:
    """The compiled model where numba is installed, else the NumPy one: the same integers, many times slower."""
    try:
        from locallearn.quant.fast import FastNetwork
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        return GoldenNetwork
    return FastNetwork


@contextmanager
def connect(
    spec: NetworkSpec,
    target: str,
    progress: Callable[[str], None] = lambda stage: None,
    baud: int = DEFAULT_BAUD,
) -> Iterator[Device]:
    """A device for `spec`, closed again at the end.

    target    `sim`: the RTL, compiled by Verilator (cached) and started as a process of its own;
              `model`: the golden model, compiled where numba is installed; `numpy`: as its definition in NumPy;
              anything else: a serial port or socket://host:port with a chip behind it
    progress  hears the stages of a build
    baud      of a serial port

    Raises DeviceError where the chip cannot be reached or is another one, ToolError where it cannot be built.
    """
    if target == "model":
        progress("compiling the model")
        yield ModelDevice(spec, fastest_model())
    elif target == "numpy":
        yield ModelDevice(spec)
    elif target == "sim":
        # Only a simulation needs Amaranth and the tools around it.
        from locallearn.sim.design import chip_verilog
        from locallearn.sim.simulated import SimulatedChip

        verilog = chip_verilog(spec, progress=progress)
        with SimulatedChip(verilog, progress=progress) as chip, ChipDevice(spec, Link(chip.url)) as device:
            device.name = "sim"
            yield device
    else:
        with ChipDevice(spec, Link(target, baud=baud)) as device:
            yield device
