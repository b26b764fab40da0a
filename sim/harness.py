"""What a design is compiled with to be a simulated chip: a main program in C++, which drives its ports."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SERIAL", "SOCKET", "Harness"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Harness:
    """A main program and the ports of the designs that it takes.

    main   its file, in this folder
    ports  of module `top` beside `clk` and `rst`, each with its direction and width in Verilog; others are left open
    """

    main: str
    ports: tuple[tuple[str, str], ...]

    @property
    def sources(self) -> dict[str, str]:
        """The text of every file that is compiled, by name; headers that another main program needs as well."""
        files = (_FOLDER / self.main, *sorted(_FOLDER.glob("*.h")))
        return {file.name: file.read_text() for file in files}

    @property
    def wrapper(self) -> str:
        """Module `chip`, which is what the main program sees of `top`.

        It resets itself: were `rst` an input, Verilator would evaluate all next-state logic again in every half cycle,
        because an input may have changed (12 % slower).
        """
        declared = "".join(f",\n  {kind} {name}" for kind, name in self.ports)
        connected = "".join(f",\n    .{name}({name})" for _, name in self.ports)
        return f"""
module chip(
  input clk{declared}
);
  reg [2:0] reset = 7;
  always @(posedge clk) if (reset != 0) reset <= reset - 1;
  top top(
    .clk(clk), .rst(reset != 0){connected}
  );
endmodule
"""


SOCKET = Harness(
    "socket_chip.cpp",
    (
        ("input [7:0]", "i__payload"),
        ("input", "i__valid"),
        ("output", "i__ready"),
        ("output [7:0]", "o__payload"),
        ("output", "o__valid"),
        ("input", "o__ready"),
        ("output", "idle"),
    ),
)
"""Streams of bytes behind a TCP socket."""

SERIAL = Harness(
    "serial_chip.cpp",
    (("input", "rx"), ("output", "tx"), ("output", "lost"), ("output", "busy")),
)
"""The two wires of a serial port behind a pseudo-terminal."""
