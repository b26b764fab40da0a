"""What a chip takes of a part, before it is synthesised.

Multipliers and memories are counted as the RTL makes them. LUTs and flip-flops are linear in the widths of the blocks;
`benchmarks/calibrate.py` fitted the coefficients to what synthesis made of other networks. What an unusual classifier
takes beside its wider sums is not in them; benchmarks/README.md has it as a table.
"""

import json
from functools import cache
from importlib import resources
from math import ceil

from locallearn.fpga.boards import Board
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import SCORE_SLOTS, LayerPlan
from locallearn.quant.packets import result_fields
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP_COUNTERS, COUNTER_BITS, LAYER_COUNTERS
from locallearn.rtl.target import GOWIN, ICE40UP, SPRAM, Target

__all__ = [
    "COEFFICIENTS",
    "Resources",
    "chip_widths",
    "estimate_layer_resources",
    "estimate_resources",
    "layer_widths",
]

COEFFICIENTS = "estimate_coefficients.json"
"""Its name in this package: by target and resource, what each of `chip_widths` and `layer_widths` takes."""

Resources = dict[str, int]
"""Counts by the names of `Capacity`'s fields, of those that nextpnr counts."""


def estimate_layer_resources(plan: LayerPlan, target: Target) -> Resources:
    """What a layer takes: LUTs and flip-flops within some 20 %, the others exactly."""
    logic = _logic(layer_widths(plan, target), target)
    return logic | {"dsp": ceil(_multipliers(plan, target))} | _layer_memories(plan, target)


def estimate_resources(plan: NetworkPlan, board: Board) -> Resources:
    """What a chip with its serial port takes."""
    target = board.target
    total = _logic(chip_widths(plan), target)
    total["block_ram"] = target.block_rams(8, board.receive_bytes)
    total["block_ram"] += _counter_memories(len(CHIP_COUNTERS), target)
    if not target.lut_ram:
        total["block_ram"] += _result_memories(plan, target)
    if plan.spec.sum_scores:
        total["block_ram"] += _small(target, plan.layers[-2].score_bits, SCORE_SLOTS << plan.layers[-1].class_bits)
    for layer in plan.layers:
        for resource, count in estimate_layer_resources(layer, target).items():
            total[resource] = total.get(resource, 0) + count
    return total | {"dsp": ceil(sum(_multipliers(layer, target) for layer in plan.layers))}


def chip_widths(plan: NetworkPlan) -> dict[str, float]:
    """Of what there is around the layers: decoder, results, counters, serial port, the host's way to all layers."""
    return {"chip": 1, "further layers": len(plan.layers) - 1}


def layer_widths(plan: LayerPlan, target: Target) -> dict[str, float]:
    """Of a layer's blocks, in bits; those of all lanes, banks or classes together."""
    row = (plan.weight_rows - 1).bit_length()
    value = plan.input_format.bits + plan.scaled_error_width
    weight, total = plan.weight_format.bits, plan.accumulator_bits
    addresses = plan.event_address_bits
    if isinstance(plan, ConvPlan):
        # Sums are wider, and go through two adders; what a channel learns by is each lane's own.
        total, value = 2 * plan.sum_bits, value + plan.scaled_error_width
        addresses = sum(map(_bits, (plan.value_address, plan.pixel_address, plan.columns_address)))
    behind = -(-plan.weight_rows // SPRAM[0]) if target == ICE40UP else target.banks(plan.weight_rows)
    return {
        # Sequencer, event buffer, counters, the host's way in.
        "layer": 1,
        "addresses": row + addresses,
        # With what goes from bank to bank. A weight passes about three of a lane's registers and adders.
        "lanes": plan.lanes * (3 * weight + total + value),
        # Behind memories that one block is not deep enough for.
        "multiplexers": plan.lanes * weight * (behind - 1),
        # Classifier and error unit.
        "scores": plan.classes * plan.score_bits,
        "errors": plan.classes * plan.error_width,
    }


def _multipliers(plan: LayerPlan, target: Target) -> float:
    """Of a layer, where yosys does not make them of LUTs; Gowin has two of 9 x 9 bits in place of one."""
    lane = (plan.input_format.bits, max(plan.weight_format.bits, plan.scaled_error_width))
    of_lanes = plan.lanes * _blocks(*lane, target)
    if not plan.classifier.learns:
        return of_lanes
    return of_lanes + plan.classes * _blocks(*plan.matrix_operand_bits, target)


def _blocks(narrow: int, wide: int, target: Target) -> float:
    """Of a multiplier."""
    if (target == ICE40UP and wide > 16) or (target == GOWIN and (narrow < 3 or wide < 4)):
        return 0
    return 0.5 if target == GOWIN and wide <= 9 else 1


def _result_memories(plan: NetworkPlan, target: Target) -> int:
    """Block RAMs for results that wait, where LUTs hold none: yosys takes registers for memories of up to 64 bits."""
    width = sum(result_fields(plan).values())
    # The last word of each is a register in any case.
    depths = (plan.results_waiting(layer.index) - 1 for layer in plan.layers)
    return sum(target.block_rams(width, depth) for depth in depths if width * depth > 64)


def _counter_memories(counters: int, target: Target) -> int:
    """Block RAMs for the two halves of each."""
    return _small(target, COUNTER_BITS // 2, 2 * counters)


def _layer_memories(plan: LayerPlan, target: Target) -> Resources:
    """Of a layer."""
    weights = [len(lanes) * plan.weight_format.bits for lanes in plan.banks]
    if isinstance(plan, ConvPlan):
        block_ram = _conv_memories(plan, target)
    else:
        block_ram = target.block_rams(plan.event_bits, plan.event_depth)
    remembered = 1
    if plan.classifier.learns:
        block_ram += target.block_rams(plan.classes * plan.classifier.format.bits, plan.features)
        remembered += plan.output_format.bits
    block_ram += _small(target, remembered, plan.features) + _counter_memories(len(LAYER_COUNTERS), target)
    if target == ICE40UP:
        depth, width = SPRAM
        spram = sum(-(-bits // width) for bits in weights) * -(-plan.weight_rows // depth)
        return {"block_ram": block_ram, "spram": spram}
    return {"block_ram": block_ram + sum(_words(target, bits, plan.weight_rows) for bits in weights)}


def _conv_memories(plan: ConvPlan, target: Target) -> int:
    """Of a convolution, beside its weights and classifier: maps and masks of two samples, winners, errors, features."""
    maps = (
        (plan.value_address, plan.input_format.bits),
        (plan.pixel_address, plan.channel_word),
        (plan.columns_address, plan.column_word),
    )
    sums = plan.output_format.bits + plan.cell_shift
    cells = sum((side - 1).bit_length() for side in plan.feature_map)
    block_ram = sum(target.block_rams(width, 2 << _bits(address)) for address, width in maps)
    block_ram += target.block_rams(sums, 1 << cells)
    winners = 1 << _bits(plan.winner_address)
    block_ram += sum(_words(target, len(lanes) * plan.winner_bits, winners) for lanes in plan.banks)
    block_ram += plan.lanes * _words(target, plan.scaled_error_width, 1 << _bits(plan.error_address))
    # A row's mask on its way, and the best of a pool.
    block_ram += _small(target, plan.column_word, plan.input_map[2])
    return block_ram + _small(target, plan.output_format.bits + plan.winner_bits - 1, plan.lanes)


def _bits(address: dict[str, int]) -> int:
    return sum(address.values())


def _small(target: Target, width: int, depth: int) -> int:
    """Blocks of a `memory.small_memory`; yosys knows those with LUT RAM beside them twice as wide at half the depth."""
    if not target.small_in_blocks(width, depth):
        return 0
    least, widest = target.blocks[0]
    return -(-width // (2 * widest)) if target.lut_ram and depth <= least // 2 else target.block_rams(width, depth)


def _words(target: Target, width: int, depth: int) -> int:
    """Blocks of a `memory.words_memory`."""
    return 0 if target.in_luts(depth) else target.block_rams(width, depth)


def _logic(widths: dict[str, float], target: Target) -> Resources:
    return {
        resource: round(sum(factors[name] * width for name, width in widths.items()))
        for resource, factors in _coefficients()[target.name].items()
    }


@cache
def _coefficients() -> dict[str, dict[str, dict[str, float]]]:
    text = (resources.files("locallearn.fpga") / COEFFICIENTS).read_text()
    table: dict[str, dict[str, dict[str, float]]] = json.loads(text)
    return table
