"""The payloads of the streams that join the blocks, derived from the plan and the packet layout."""

from amaranth import signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.packets import result_fields
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import ELEMENT_BITS, Kind, regions

__all__ = ["AccessSignature", "activation_layout", "error_layout", "event_layout", "result_layout", "sample_layout"]


def event_layout(plan: LayerPlan) -> data.StructLayout:
    """One input of a layer that is not zero; the `last` one of a sample is the bias and carries the label.

    index  input number, `plan.inputs` for the bias
    value  in the input format
    last   ends the sample
    label  its class, where `learn`
    learn  the sample is labelled
    void   with `last`: the sample has stopped at the layer before; only where it can
    """
    return data.StructLayout(
        {
            "index": unsigned(plan.event_index_bits),
            "value": unsigned(plan.input_format.bits),
            "last": 1,
            "label": unsigned(plan.class_bits),
            "learn": 1,
        }
        | ({"void": 1} if plan.can_be_void else {})
    )


def sample_layout(plan: LayerPlan) -> data.StructLayout:
    """One sample in the event buffer, and its label.

    before  address of the event before the last
    alone   the last event is the only one
    """
    return data.StructLayout(
        {
            "before": unsigned(plan.event_address_bits),
            "alone": 1,
            "label": unsigned(plan.class_bits),
            "learn": 1,
        }
    )


def activation_layout(plan: LayerPlan) -> data.StructLayout:
    """What a classifier sees: a feature, which of a dense layer is a neuron's activation; `active` where a neuron has
    something to learn. `first` and `last` are the ends of a sample."""
    return data.StructLayout(
        {
            "index": unsigned(max(1, (plan.features - 1).bit_length())),
            "value": unsigned(plan.output_format.bits),
            "active": 1,
            "first": 1,
            "last": 1,
        }
    )


def error_layout(plan: LayerPlan) -> data.StructLayout:
    """The last layer's error for all that learn from it.

    entries  class by class, as they are until that layer is given another labelled sample
    size     see `quant/classifier.py`
    judged   high for a cycle when they are complete
    """
    return data.StructLayout(
        {
            "entries": data.ArrayLayout(signed(plan.error_width), plan.classes),
            "size": unsigned(plan.error_size_bits),
            "judged": 1,
        }
    )


def result_layout(plan: NetworkPlan) -> data.StructLayout:
    """A layer's answer to one sample, as it goes to the host."""
    return data.StructLayout(result_fields(plan))


class AccessSignature(wiring.Signature):
    """One element of a region, read or written by the host while nothing is in flight. The lanes of a row are
    accessed in order, beginning with lane 0; a row that is written is written to its end.

    `request` is high for a cycle; the fields stay as they are until `done` is high for a cycle; `read` is valid then.
    It is wide enough for the largest region of the chip.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        table = regions(plan).values()
        rows, lanes = max(r.rows for r in table), max(r.lanes for r in table)
        super().__init__(
            {
                "request": Out(1),
                "write": Out(1),
                "kind": Out(Kind),
                "row": Out(range(rows)),
                "lane": Out(range(lanes)),
                "data": Out(ELEMENT_BITS),
                "done": In(1),
                "read": In(ELEMENT_BITS),
            }
        )
