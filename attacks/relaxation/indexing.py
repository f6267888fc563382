"""Square brackets: codebooks and tables read at chosen places, masks written to.

What is read has the gradient of the mean of what could have been read.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing
from attacks.relaxation.shadow import Shadow, attach, graph_of, shadow_of
from attacks.relaxation.steps import mixed
from attacks.relaxation.surrogate_gradients import straight_through


def looked_up(mode: Relaxing, call: Call) -> Any:
    """``table[index]`` of an index that was chosen or counted."""
    table, index = call.args
    shadow = shadow_of(index)
    if shadow is None or index.dtype in (torch.bool, torch.uint8):
        return UNSEEN
    if not isinstance(table, Tensor) or shadow_of(table) is not None or not table.is_floating_point():
        return UNSEEN
    real, n = call.run(), len(table)
    if shadow.choice is not None and shadow.choice.shape[-1] == n:
        soft = torch.tensordot(shadow.choice, table.detach().float(), dims=1)
    else:
        padded = torch.cat([table[:1], table, table[-1:]]).detach().float()
        rise = (padded[2:] - padded[:-2]) / 2
        number = shadow.value.reshape(*index.shape, *[1] * (table.ndim - 1))
        soft = (number - number.detach()) * rise[index.long() % n]
    if soft.shape != real.shape or not soft.requires_grad:
        return real
    met = mode.record.note("lookup")
    # Beside the gradient in the index that in the table, where it has one.
    extra = straight_through(torch.zeros_like(real), soft.to(real.dtype), met)
    return (
        straight_through(real.detach(), real + extra) if real.requires_grad else straight_through(real, extra)
    )


def write(mode: Relaxing, call: Call) -> Any:
    """``x[mask] = value``, of one value."""
    x, key, value = call.args
    before = x.detach().clone() if _has_shadow(key) else None
    if x.is_floating_point() and shadow_of(value) is not None:
        value = straight_through(value.to(x.dtype), graph_of(value).to(x.dtype))
    if before is None:
        call.func(x, key, value)
        return None
    likely = _likely(key, x)
    if likely is None or (isinstance(value, Tensor) and not _alike(value)):
        call.func(x, key, value)
        return None
    if isinstance(value, Tensor) and not value.numel():
        return None
    with torch.no_grad():
        after = before.clone()
        call.func(after, key, value.detach() if isinstance(value, Tensor) else value)
    met = mode.record.note("assignment")
    number = float(value.detach().flatten()[0]) if isinstance(value, Tensor) else float(value)
    soft = mixed(torch.zeros_like(after, dtype=torch.float32), likely, number, before.float())
    call.func(x, key, value)
    if x.is_floating_point():
        x.add_(straight_through(torch.zeros_like(x), soft.to(x.dtype), met))
    else:
        attach(x, Shadow(straight_through(after.float(), soft, met)))
    return None


def _alike(value: Tensor) -> bool:
    return value.numel() < 2 or bool((value == value.flatten()[0]).all())


def _has_shadow(key: Any) -> bool:
    return any(shadow_of(part) is not None for part in (key if isinstance(key, tuple) else (key,)))


def _likely(key: Any, x: Tensor) -> Tensor | None:
    """How likely each element of ``x`` is to be written to, float32 with a graph."""
    shadow = shadow_of(key)
    if shadow is None or key.dtype != torch.bool or key.ndim > x.ndim:
        return None
    return shadow.value.view(*key.shape, *[1] * (x.ndim - key.ndim)).expand(x.shape)


HANDLERS: dict[str, Handler] = {
    "__getitem__": looked_up,
    "__setitem__": write,
}
