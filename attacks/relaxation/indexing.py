"""Reading tables at chosen places, and square brackets: embeddings, codebooks, stored labels, masks.

What is read has the gradient of the mean of what could have been read. A table of labels has no mean: what
is read from it is a choice among labels, as likely as the places that bear each.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing
from attacks.relaxation.selection import with_choice
from attacks.relaxation.shadow import Shadow, attach, graph_of, live, shadow_of
from attacks.relaxation.steps import mixed, where
from attacks.relaxation.surrogate_gradients import straight_through

MOST_LABELS = 4096  # a table of larger integers does not hold labels


def looked_up(mode: Relaxing, call: Call) -> Any:
    """A table at an index: embedding, ``table[index]``."""
    if call.name == "embedding":
        index, table = call.arg(0, "input"), call.arg(1, "weight")
    else:
        table, index = call.args[0], call.args[1]
    shadow = shadow_of(index)
    if shadow is None or (index.dtype in (torch.bool, torch.uint8) and call.name == "__getitem__"):
        return UNSEEN
    if not isinstance(table, Tensor) or shadow_of(table) is not None:
        return UNSEEN
    if not table.is_floating_point():
        return _label(mode, call.run(), table, shadow.choice) if table.ndim == 1 else UNSEEN
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


def gathered(mode: Relaxing, call: Call) -> Any:
    """gather at chosen places of a table: the mean of what could have been read.

    Where what is read has a gradient itself, as sorted values do, that one is kept.
    """
    table, dim, index = call.arg(0, "input"), call.arg(1, "dim"), call.arg(2, "index")
    shadow = shadow_of(index)
    if shadow is None or shadow.choice is None or not isinstance(dim, int):
        return UNSEEN
    if not isinstance(table, Tensor) or shadow_of(table) is not None or table.ndim != index.ndim:
        return UNSEEN
    if not table.is_floating_point():
        return UNSEEN
    if live(table):
        return call.run()
    real, dim = call.run(), dim % table.ndim
    rows = table.detach().float()
    for axis, length in enumerate(index.shape):
        if axis != dim:
            rows = rows.narrow(axis, 0, min(length, rows.shape[axis]))
    rows = rows.movedim(dim, -1).unsqueeze(dim)
    if rows.shape[-1] != shadow.choice.shape[-1]:
        return real
    soft = (shadow.choice * rows).sum(-1)
    if soft.shape != real.shape or not soft.requires_grad:
        return real
    return straight_through(real, soft.to(real.dtype), mode.record.note("lookup"))


def _label(mode: Relaxing, real: Tensor, labels: Tensor, choice: Tensor | None) -> Any:
    """``real`` as a choice among the values of ``labels`` [n], given that among its places [..., n]."""
    few = labels.numel() and int(labels.min()) >= 0 and int(labels.max()) < MOST_LABELS
    if choice is None or not few or choice.shape != (*real.shape, len(labels)):
        return real
    values = torch.arange(int(labels.max()) + 1, device=labels.device)
    borne_by = (labels[:, None] == values).to(choice.dtype)
    return with_choice(real, choice @ borne_by, mode.record.note("lookup"))


_MASK = "_csrobust_mask"  # of indices: the mask whose places they are, and along which axis


def read(mode: Relaxing, call: Call) -> Any:
    """``table[index]`` of an index that was chosen or counted."""
    key = call.args[1]
    if not isinstance(key, Tensor) or shadow_of(key) is None or shadow_of(call.args[0]) is not None:
        return UNSEEN
    return looked_up(mode, call)


def places_of(mode: Relaxing, call: Call) -> Any:
    """``nonzero(as_tuple=True)`` and ``where(mask)``: places which remember the mask that they come from."""
    mask = call.arg(0, "input")
    alone = call.name == "where" and len(call.args) + len(call.kwargs) == 1
    if not alone and not (call.name == "nonzero" and call.arg(1, "as_tuple", False)):
        return where(mode, call) if call.name == "where" else UNSEEN
    if alone and mask is None:
        mask = call.kwargs.get("condition")
    found = call.run()
    if shadow_of(mask) is not None and mask.dtype == torch.bool:
        for axis, each in enumerate(found):
            setattr(each, _MASK, (mask, axis))
    return found


def write(mode: Relaxing, call: Call) -> Any:
    """``x[mask] = value``, of one value."""
    x, key, value = call.args
    key = _as_mask(key)
    call = Call(call.func, call.name, (x, key, value), call.kwargs)
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


def _as_mask(key: Any) -> Any:
    """The mask that places in every dimension were made of, in their place."""
    parts = key if isinstance(key, tuple) else (key,)
    told = [getattr(part, _MASK, None) for part in parts]
    masks = [each[0] for each in told if each is not None]
    whole = len(masks) == len(parts) and masks[0].ndim == len(parts)
    if not whole or any(mask is not masks[0] for mask in masks):
        return key
    return masks[0] if [each[1] for each in told] == list(range(len(parts))) else key  # type: ignore[index]


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
    "__getitem__": read,
    "__setitem__": write,
    **dict.fromkeys(("nonzero", "where"), places_of),
    **dict.fromkeys(("embedding",), looked_up),
    "gather": gathered,
}
