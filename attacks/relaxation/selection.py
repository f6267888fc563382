"""Relaxed selection operators (argmax, topk, sort, sampling): a hard index with a soft gradient.

The largest of z is chosen with probability softmax(z / s), where s is the mean distance of the entries from
their mean; the j-th largest with probability softmax(-|z - z_(j)| / s) (SoftSort, arXiv 2006.16038). What
was drawn keeps its value, and has the gradient of what it was drawn from.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attacks.relaxation.record import UNSEEN, Call, Handler, Operator, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, live, shadow_of
from attacks.relaxation.surrogate_gradients import spread_along, straight_through

# Likelihoods of more than so many pairs of an index and what it may point to are not kept.
MOST_PAIRS = 2**22


def argmax(mode: Relaxing, call: Call) -> Any:
    """argmax and argmin."""
    z, dim, keepdim = first(call), call.arg(1, "dim"), call.arg(2, "keepdim", False)
    if not follows(z):
        return UNSEEN
    real = call.real()
    return _chosen(mode, call.name, graph_of(z), real, dim, keepdim, -1.0 if call.name == "argmin" else 1.0)


def extreme(mode: Relaxing, call: Call) -> Any:
    """max and min along a dimension: the values have torch's gradient, the indices one of their own."""
    z, dim, keepdim = first(call), call.arg(1, "dim"), call.arg(2, "keepdim", False)
    if not live(z) or not isinstance(dim, int):
        return UNSEEN
    answer = call.run()
    _chosen(mode, f"arg{call.name}", z, answer[1], dim, keepdim, -1.0 if call.name == "min" else 1.0)
    return answer


def _chosen(
    mode: Relaxing, name: str, z: Tensor, index: Tensor, dim: int | None, keepdim: bool, sign: float
) -> Tensor:
    if not live(z) or not z.ndim:
        return index
    flat = z.flatten()[None] if dim is None else z.movedim(dim, -1)
    scale = spread_along(flat, flat.ndim - 1)
    choice = (sign * flat / scale.to(flat.dtype)).softmax(-1)
    if dim is None:
        choice = choice[0].view(*index.shape, -1)
    elif keepdim:
        choice = choice.unsqueeze(dim % z.ndim)
    return with_choice(index, choice, mode.record.note(name, 1.0, scale))


def with_choice(index: Tensor, choice: Tensor, op: Operator | None) -> Tensor:
    """Hangs the likelihoods ``[*index.shape, n]`` on ``index``, and the mean index as its number."""
    positions = torch.arange(choice.shape[-1], device=choice.device, dtype=torch.float32)
    # The note's straight_through is what tells whether a gradient came back through the choice.
    choice = straight_through(choice.detach().float(), choice.float(), op)
    value = straight_through(index.float(), (choice * positions).sum(-1))
    return attach(index, Shadow(value, choice))


def sort(mode: Relaxing, call: Call) -> Any:
    """sort, argsort, topk, kthvalue and median along a dimension."""
    z = first(call)
    if not live(z) or not z.ndim:
        return UNSEEN
    position = {"topk": 2, "kthvalue": 2}.get(call.name, 1)
    dim = call.arg(position, "dim", None if call.name == "median" else -1)
    answer = call.run()
    if not isinstance(dim, int):
        return answer
    index = answer if isinstance(answer, Tensor) else answer[1]
    if not isinstance(index, Tensor) or index.is_floating_point():
        return answer
    keepdim = index.ndim == z.ndim
    at = index.clone() if keepdim else index.clone().unsqueeze(dim)  # its graph must not keep the index alive
    scale = spread_along(z, dim % z.ndim)
    op = mode.record.note(call.name, 1.0, scale)
    choice = likely_places(z, at, dim, scale)
    if choice is not None:
        with_choice(index, choice if keepdim else choice.squeeze(dim % z.ndim), op)
    return answer


def likely_places(z: Tensor, at: Tensor, dim: int, scale: Tensor) -> Tensor | None:
    """How likely each element along ``dim`` is the one at ``at``, [*at.shape, n]; None if too many."""
    values, rows = z.gather(dim, at).movedim(dim, -1), z.movedim(dim, -1)
    if values.numel() * rows.shape[-1] > MOST_PAIRS:
        return None
    soft = -(values[..., :, None] - rows[..., None, :]).abs()
    choice = (soft / scale.to(z.dtype).movedim(dim, -1)[..., None]).softmax(-1)
    return choice.movedim(-2, dim % z.ndim)


def one_hot(mode: Relaxing, call: Call) -> Any:
    """The likelihoods themselves."""
    shadow = shadow_of(first(call))
    if shadow is None or shadow.choice is None:
        return UNSEEN
    real = call.real()
    n = real.shape[-1]
    if shadow.choice.shape[:-1] != real.shape[:-1]:
        return real
    # There may be more classes than the choice was among.
    likely = functional.pad(shadow.choice, (0, n - shadow.choice.shape[-1]))
    return attach(real, Shadow(straight_through(real.float(), likely)))


def scatter(mode: Relaxing, call: Call) -> Any:
    """Numbers put where chosen indices point: scatter, scatter_add and those with one value."""
    base, dim, index = call.arg(0, "input"), call.arg(1, "dim"), call.arg(2, "index")
    value = call.arg(3, "src", call.kwargs.get("value"))
    shadow = shadow_of(index)
    if shadow is None or not isinstance(dim, int) or call.kwargs.get("reduce"):
        return UNSEEN
    real, dim = call.run(), dim % index.ndim
    number, choice = graph_of(value), shadow.choice
    if choice is None or choice.shape[-1] != real.shape[dim]:
        return real
    if isinstance(number, Tensor):
        choice, number = choice * number[tuple(map(slice, index.shape))][..., None], 1.0
    soft = choice.movedim(dim, 0).sum(0).movedim(-1, dim)
    if soft.shape != real.shape or not soft.requires_grad:
        return real
    # Booleans have no difference.
    before = base.detach().float() if base.dtype == torch.bool else base.detach()
    gap = torch.as_tensor(number if call.name == "scatter_add" else float(number) - before)
    # An infinite number masks: where it is put has no slope, and 0 times it would be NaN.
    extra = (soft - soft.detach()) * gap.where(gap.isfinite(), 0)
    op = mode.record.note("scatter")
    if not real.is_floating_point():
        return attach(real, Shadow(straight_through(real.float(), extra.float(), op)))
    return _beside(real, extra, op)


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
    op = mode.record.note("lookup")
    return _beside(real, soft, op)


def _beside(real: Tensor, soft: Tensor, op: Operator | None) -> Tensor:
    """``real`` with the gradient of ``soft``, beside its own where it has one."""
    extra = straight_through(torch.zeros_like(real), soft.to(real.dtype), op)
    return straight_through(real.detach(), real + extra if real.requires_grad else extra)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("argmax", "argmin"), argmax),
    **dict.fromkeys(("max", "min"), extreme),
    **dict.fromkeys(("sort", "argsort", "topk", "kthvalue", "median", "msort"), sort),
    "one_hot": one_hot,
    **dict.fromkeys(("scatter", "scatter_add"), scatter),
    "__getitem__": looked_up,
}
