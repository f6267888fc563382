"""Numbers of other kinds: integers, bytes, truth values, quantised tensors, and back again."""

from typing import Any

from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import graft, sloped
from attacks.relaxation.shadow import Shadow, attach, live, shadow_of


def cast(mode: Relaxing, call: Call) -> Any:
    """To another type; what an integer type cuts off is taken for noise."""
    x = first(call)
    shadow = shadow_of(x)
    if shadow is None and not live(x):
        return UNSEEN
    answer = call.run()
    if not isinstance(answer, Tensor) or answer is x or answer.shape != x.shape:
        return answer
    if answer.is_floating_point() and not answer.is_quantized and answer.element_size() > 1:
        if shadow is None or answer.requires_grad:
            return answer  # between floating types torch has a gradient
        return graft(answer, shadow.value.to(answer.dtype))
    answer = answer.detach()  # of eight bits: a gradient that is as short is of no use
    if shadow is not None:
        kept = Shadow(shadow.value, shadow.choice, shadow.members, shadow.order_of)
        return attach(answer, kept)
    kind = str(answer.dtype).removeprefix("torch.")
    met = mode.record.note(f"cast to {kind}")
    return attach(answer, Shadow(sloped(x.detach().float(), x.float(), 1.0, met)))


def quantised(mode: Relaxing, call: Call) -> Any:
    """quantize_per_tensor and per_channel; dequantize gives the gradient back."""
    x = first(call)
    if not live(x):
        return UNSEEN
    answer = call.real()
    met = mode.record.note("quantize")
    return attach(answer, Shadow(sloped(x.detach().float(), x.float(), 1.0, met)))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("to", "type", "type_as", "long", "int", "short", "char", "byte", "bool"), cast),
    **dict.fromkeys(("half", "float", "double", "bfloat16", "dequantize", "int_repr", "view"), cast),
    **dict.fromkeys(("quantize_per_tensor", "quantize_per_channel"), quantised),
    "quantize_per_tensor_dynamic": quantised,
}
