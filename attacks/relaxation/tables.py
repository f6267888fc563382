"""Tables read at a chosen place: embeddings, codebooks, and the labels of stored neighbours.

What is read has the gradient of the mean of what could have been read. A table of labels has no mean: what is
read from it is a choice among labels, as likely as the places that bear each.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing
from attacks.relaxation.choosing import with_choice
from attacks.relaxation.graft import graft
from attacks.relaxation.shadow import live, shadow_of

MOST_LABELS = 4096  # a table of larger integers does not hold labels


def looked_up(mode: Relaxing, call: Call) -> Any:
    """A table at an index: embedding, index_select, ``table[index]``."""
    if call.name == "embedding":
        index, table = call.arg(0, "input"), call.arg(1, "weight")
    elif call.name == "index_select":
        if call.arg(1, "dim") != 0:
            return UNSEEN
        table, index = call.arg(0, "input"), call.arg(2, "index")
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
    extra = graft(torch.zeros_like(real), soft.to(real.dtype), met)
    return graft(real.detach(), real + extra) if real.requires_grad else graft(real, extra)


def gathered(mode: Relaxing, call: Call) -> Any:
    """gather and take_along_dim at chosen places of a table: the mean of what could have been read.

    Where what is read has a gradient itself, as sorted values do, that one is kept.
    """
    table, dim, index = call.arg(0, "input"), call.arg(1, "dim"), call.arg(2, "index")
    if call.name == "take_along_dim":
        index, dim = call.arg(1, "indices"), call.arg(2, "dim")
    shadow = shadow_of(index)
    if shadow is None or shadow.choice is None or not isinstance(dim, int):
        return UNSEEN
    if not isinstance(table, Tensor) or shadow_of(table) is not None or table.ndim != index.ndim:
        return UNSEEN
    if not table.is_floating_point():
        row = table.movedim(dim, -1).flatten(0, -2)
        same = len(row) and bool((row == row[:1]).all())
        return _label(mode, call.run(), row[0], shadow.choice) if same else UNSEEN
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
    return graft(real, soft.to(real.dtype), mode.record.note("lookup"))


def _label(mode: Relaxing, real: Tensor, labels: Tensor, choice: Tensor | None) -> Any:
    """``real`` as a choice among the values of ``labels`` [n], given that among its places [..., n]."""
    few = labels.numel() and int(labels.min()) >= 0 and int(labels.max()) < MOST_LABELS
    if choice is None or not few or choice.shape != (*real.shape, len(labels)):
        return real
    values = torch.arange(int(labels.max()) + 1, device=labels.device)
    borne_by = (labels[:, None] == values).to(choice.dtype)
    return with_choice(real, choice @ borne_by, mode.record.note("lookup"))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("embedding", "index_select"), looked_up),
    **dict.fromkeys(("gather", "take_along_dim"), gathered),
}
