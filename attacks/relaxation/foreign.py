"""Operators that torch itself knows no derivative of: quantised layers, and those defined by others.

A quantised layer goes on as the layer with its weights as numbers. An operator that was defined with
``torch.library`` has the gradient of its own Python code, relaxed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.nn import functional

from attacks.relaxation.call import UNSEEN, Call, Relaxing
from attacks.relaxation.graft import graft
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, shadow_of, tensors_in


def foreign(mode: Relaxing, call: Call, again: Callable[[], Any]) -> Any:
    """The answer of an operator of ``torch.ops`` that is none of torch's own.

    Args:
        mode: asks.
        call: the call.
        again: a context in which calls are relaxed, for code that is run in the operator's place.
    """
    packet = call.func.overloadpacket if isinstance(call.func, torch._ops.OpOverload) else call.func
    if not isinstance(packet, torch._ops.OpOverloadPacket) or not any(map(follows, tensors_in(call.args))):
        return UNSEEN
    space, _, name = packet._qualified_op_name.partition("::")
    plain = name.removesuffix("_dynamic").removesuffix("_relu")
    if space == "quantized" and plain in _LAYERS:
        return _layer(mode, call, name, _LAYERS[plain])
    if space in ("aten", "prim", "prims", "quantized", "torchvision"):
        return UNSEEN
    defined = OPDEFS.get(f"{space}::{name}")
    real = call.real()
    if not isinstance(real, Tensor) or defined is None:
        return UNSEEN
    try:
        with again():
            soft = defined._init_fn(*call.args, **call.kwargs)
    except Exception:  # user code, run as it was not meant to be
        return UNSEEN
    if not isinstance(soft, Tensor) or soft.shape != real.shape or not follows(soft):
        return UNSEEN
    met = mode.record.note(name)
    number = graph_of(soft)
    if real.is_floating_point():
        return graft(real, number.to(real.dtype), met)
    shadow = shadow_of(soft)
    choice = None if shadow is None else shadow.choice
    return attach(real, Shadow(graft(real.float(), number.float(), met), choice))


def _layer(mode: Relaxing, call: Call, name: str, layer: Callable[[Call], Tensor]) -> Any:
    real = call.real()
    soft = layer(call)
    if "relu" in name:
        soft = functional.relu(soft)
    met = mode.record.note(f"quantised {name}")
    if real.is_quantized:
        return attach(real, Shadow(graft(real.dequantize(), soft, met)))
    return graft(real, soft.to(real.dtype), met)


def _linear(call: Call) -> Tensor:
    weight, bias = call.args[1].unpack()
    return functional.linear(_number(call.args[0]), weight.dequantize(), bias)


def _conv2d(call: Call) -> Tensor:
    packed = call.args[1]
    weight, bias = packed.unpack()
    how = (packed.stride(), packed.padding(), packed.dilation(), packed.groups())
    return functional.conv2d(_number(call.args[0]), weight.dequantize(), bias, *map(_plain, how))


def _add(call: Call) -> Tensor:
    return _number(call.args[0]) + _number(call.args[1])


def _mul(call: Call) -> Tensor:
    return _number(call.args[0]) * _number(call.args[1])


def _cat(call: Call) -> Tensor:
    return torch.cat([_number(x) for x in call.args[0]], call.args[1])


def _number(x: Any) -> Any:
    x = graph_of(x)
    return x.dequantize() if isinstance(x, Tensor) and x.is_quantized else x


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else tuple(value)


_LAYERS: dict[str, Callable[[Call], Tensor]] = {
    "linear": _linear,
    "conv2d": _conv2d,
    "add": _add,
    "mul": _mul,
    "cat": _cat,
}
