"""Square brackets: reading from chosen places, and writing to them."""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing
from attacks.relaxation.choosing import looked_up
from attacks.relaxation.comparing import mixed
from attacks.relaxation.graft import graft
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, shadow_of


def read(mode: Relaxing, call: Call) -> Any:
    """``table[index]`` of an index that was chosen or counted."""
    key = call.args[1]
    if not isinstance(key, Tensor) or shadow_of(key) is None or shadow_of(call.args[0]) is not None:
        return UNSEEN
    return looked_up(mode, call)


def write(mode: Relaxing, call: Call) -> Any:
    """``x[mask] = value``, ``x[rows, chosen] = value``, and integers written among integers."""
    x, key, value = call.args
    before = x.detach().clone() if _has_shadow(key) else None
    if x.is_floating_point() and shadow_of(value) is not None:
        value = graft(value.to(x.dtype), graph_of(value).to(x.dtype))
    if not x.is_floating_point() and (shadow_of(x) is not None or follows(value)):
        return _into_integers(call, x, key, value)
    if before is None:
        call.func(x, key, value)
        return None
    likely = _likely(key, x)
    if likely is None or (isinstance(value, Tensor) and value.numel() != 1):
        call.func(x, key, value)
        return None
    with torch.no_grad():
        after = before.clone()
        call.func(after, key, value.detach() if isinstance(value, Tensor) else value)
    met = mode.record.note("assignment")
    soft = mixed(torch.zeros_like(after, dtype=torch.float32), likely, float(value), before.float())
    call.func(x, key, value)
    if x.is_floating_point():
        x.add_(graft(torch.zeros_like(x), soft.to(x.dtype), met))
    else:
        attach(x, Shadow(graft(after.float(), soft, met)))
    return None


def _into_integers(call: Call, x: Tensor, key: Any, value: Any) -> None:
    """Integers have no graph: the shadow is written to as the tensor is."""
    shadow = shadow_of(x)
    number = (x.detach().float() if shadow is None else shadow.value).clone()
    with torch.no_grad():
        call.func(x, key, value.detach() if isinstance(value, Tensor) else value)
    number[key] = graph_of(value).float() if isinstance(value, Tensor) else value
    if number.requires_grad:
        attach(x, Shadow(number))


def _has_shadow(key: Any) -> bool:
    return any(shadow_of(part) is not None for part in (key if isinstance(key, tuple) else (key,)))


def _likely(key: Any, x: Tensor) -> Tensor | None:
    """How likely each element of ``x`` is to be written to, float32 with a graph."""
    if isinstance(key, Tensor):
        shadow = shadow_of(key)
        if shadow is not None and key.dtype == torch.bool and key.ndim <= x.ndim:
            likely = shadow.value.view(*key.shape, *[1] * (x.ndim - key.ndim)).expand(x.shape)
            return likely
        return None
    if isinstance(key, tuple) and len(key) == 2 and x.ndim == 2:
        rows, shadow = key[0], shadow_of(key[1])
        if shadow is None or shadow.choice is None or shadow.choice.shape != x.shape:
            return None
        every = isinstance(rows, slice) or torch.equal(
            torch.as_tensor(rows, device=x.device).flatten(), torch.arange(len(x), device=x.device)
        )
        return shadow.choice if every else None
    return None


HANDLERS: dict[str, Handler] = {"__getitem__": read, "__setitem__": write}
