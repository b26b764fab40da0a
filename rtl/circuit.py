"""What there are circuits for."""

from locallearn.quant.errors import SpecError
from locallearn.quant.spec import ConvSpec, NetworkSpec

__all__ = ["check_circuit", "has_circuit"]


def check_circuit(spec: NetworkSpec) -> None:
    """Raises SpecError, naming the place, for what only the models can do so far."""
    for number, layer in enumerate(spec.layers):
        if isinstance(layer, ConvSpec):
            raise SpecError(f"layers[{number}]: there is no circuit for a convolution yet, it learns in models only")
    if spec.sum_scores:
        raise SpecError("sum_scores = true: there is no circuit for it yet, models only can do it")


def has_circuit(spec: NetworkSpec) -> bool:
    """Whether there is one for it."""
    try:
        check_circuit(spec)
    except SpecError:
        return False
    return True
