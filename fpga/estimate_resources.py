"""What a chip takes of a part, before it is synthesised.

Multipliers and memories are counted as the RTL makes them. LUTs and flip-flops are linear in the widths of the blocks;
`benchmarks/calibrate.py` fitted the coefficients to what synthesis made of other networks. What an unusual fixed
classifier takes beside its wider sums is not in them; benchmarks/README.md has it as a table.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from math import ceil

from locallearn.fpga.boards import Board
from locallearn.quant.conv_plan import MASK_WORD, WAITING_WORDS, ConvPlan
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

_Memory = tuple[Callable[[Target, int, int], int], int, int]
"""What counts its blocks, bits of a word, words."""


def estimate_layer_resources(plan: LayerPlan, target: Target) -> Resources:
    """What a layer takes: LUTs and flip-flops within some 20 %, the others exactly."""
    logic = _logic(layer_widths(plan, target), target)
    return logic | {"dsp": ceil(_multipliers(plan, target))} | _layer_memories(plan, target)


def estimate_resources(plan: NetworkPlan, board: Board) -> Resources:
    """What a chip with its link and serial port takes."""
    target = board.target
    total = _logic(chip_widths(plan), target)
    total["block_ram"] = 2 * target.block_rams(8, board.link_bytes)
    total["block_ram"] += _small(target, COUNTER_BITS // 2, 2 * len(CHIP_COUNTERS))
    if not target.lut_ram:
        total["block_ram"] += _result_memories(plan, target)
    if plan.spec.sum_scores:
        total["block_ram"] += _small(target, plan.layers[-2].score_bits, SCORE_SLOTS << plan.layers[-1].class_bits)
    for layer in plan.layers:
        for resource, count in estimate_layer_resources(layer, target).items():
            total[resource] = total.get(resource, 0) + count
    return total | {"dsp": ceil(sum(_multipliers(layer, target) for layer in plan.layers))}


def chip_widths(plan: NetworkPlan) -> dict[str, float]:
    """Of what there is around the layers: serial port, link, decoder, results, counters, the way to all layers."""
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
    kept = _memories(plan, target) if target.lut_ram else ()
    in_luts = sum(-(-width // 4) * -(-depth // 16) for blocks, width, depth in kept if not blocks(target, width, depth))
    behind = -(-plan.weight_rows // SPRAM[0]) if target == ICE40UP else target.banks(plan.weight_rows)
    return {
        # Sequencer, event buffer, counters, the host's way in.
        "layer": 1,
        "convolution": isinstance(plan, ConvPlan),
        "addresses": row + addresses,
        # With what goes from bank to bank. A weight passes about three of a lane's registers and adders.
        "lanes": plan.lanes * (3 * weight + total + value),
        # Behind memories that one block is not deep enough for.
        "multiplexers": plan.lanes * weight * (behind - 1),
        # Of 16 x 4 bits.
        "memories in LUTs": in_luts,
        # Classifier and error unit.
        "scores": plan.classes * plan.score_bits,
        "errors": plan.classes * plan.error_width,
        "learned": plan.classes * plan.classifier.format.bits if plan.classifier.learns else 0,
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


def _layer_memories(plan: LayerPlan, target: Target) -> Resources:
    """Of a layer."""
    found = {"block_ram": sum(blocks(target, width, depth) for blocks, width, depth in _memories(plan, target))}
    if target == ICE40UP:
        depth, width = SPRAM
        words = sum(-(-len(lanes) * plan.weight_format.bits // width) for lanes in plan.banks)
        found["spram"] = words * -(-plan.weight_rows // depth)
    return found


def _memories(plan: LayerPlan, target: Target) -> Iterator[_Memory]:
    """A layer's but those in SPRAM."""
    remembered = 1
    if plan.classifier.learns:
        yield Target.block_rams, plan.classes * plan.classifier.format.bits, plan.features
        remembered += plan.output_format.bits
    yield _small, remembered, plan.features
    yield _small, COUNTER_BITS // 2, 2 * len(LAYER_COUNTERS)
    if target != ICE40UP:
        yield from ((_words, len(lanes) * plan.weight_format.bits, plan.weight_rows) for lanes in plan.banks)
    if isinstance(plan, ConvPlan):
        yield from _conv_memories(plan)
    else:
        yield Target.block_rams, plan.event_bits, plan.event_depth


def _conv_memories(plan: ConvPlan) -> Iterator[_Memory]:
    """Of a convolution, beside its weights and classifier: maps and masks of two samples, winners, errors, features."""
    for address, width in (
        (plan.value_address, plan.input_format.bits),
        (plan.pixel_address, plan.channel_word),
        (plan.columns_address, plan.column_word),
    ):
        yield Target.block_rams, width, 2 << _bits(address)
    cells = sum((side - 1).bit_length() for side in plan.feature_map)
    yield Target.block_rams, plan.output_format.bits + plan.cell_shift, 1 << cells
    for lanes in plan.banks:
        yield _words, len(lanes) * plan.winner_bits, 1 << _bits(plan.winner_address)
        yield from [(_words, plan.scaled_error_width, 1 << _bits(plan.error_address))] * len(lanes)
    # A row's mask on its way, words that wait for their ones to be found, and the best of a pool.
    yield _small, plan.column_word, plan.input_map[2]
    yield _small, MASK_WORD + _bits(plan.word_fields), WAITING_WORDS - 1
    if plan.conv.pool > 1:
        yield _small, plan.output_format.bits + plan.winner_bits - 1, plan.lanes


def _bits(address: dict[str, int]) -> int:
    return sum(address.values())


def _small(target: Target, width: int, depth: int) -> int:
    """Blocks of a `memory.small_memory`, of the shape that yosys finds best; those with LUT RAM beside them it knows
    twice as wide at half the depth."""
    if not target.small_in_blocks(width, depth):
        return 0
    least, widest = target.blocks[0]
    shapes = (*target.blocks, (least // 2, 2 * widest)) if target.lut_ram else target.blocks
    return min(-(-width // bits) * -(-depth // words) for words, bits in shapes)


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
