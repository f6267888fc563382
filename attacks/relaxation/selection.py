"""Choices: which element is largest, the k largest, in what order, and samples; each has likelihoods.

The largest of z is chosen with probability softmax(z / s), where s is the mean distance of the entries from
their mean; the j-th largest with probability softmax(-|z - z_(j)| / s) (SoftSort, arXiv 2006.16038). What
was drawn keeps its value, and has the gradient of what it was drawn from.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attacks.relaxation.record import UNSEEN, Call, Handler, Met, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, live, shadow_of
from attacks.relaxation.surrogate_gradients import sloped, spread_along, straight_through

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
    found = call.run()
    _chosen(mode, f"arg{call.name}", z, found[1], dim, keepdim, -1.0 if call.name == "min" else 1.0)
    return found


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


def with_choice(
    index: Tensor, choice: Tensor, met: Met | None = None, members: Tensor | None = None
) -> Tensor:
    """Hangs the likelihoods ``[*index.shape, n]`` on ``index``, and the mean index as its number."""
    positions = torch.arange(choice.shape[-1], device=choice.device, dtype=torch.float32)
    # The note's straight_through is what tells whether a gradient came back through the choice.
    choice = straight_through(choice.detach().float(), choice.float(), met)
    value = straight_through(index.float(), (choice * positions).sum(-1))
    return attach(index, Shadow(value, choice, members))


def sort(mode: Relaxing, call: Call) -> Any:
    """sort, argsort, topk, kthvalue and median along a dimension; argsort of an argsort is a rank."""
    z = first(call)
    if call.name == "argsort" and (before := shadow_of(z)) is not None and before.order_of is not None:
        return _ranks(mode, call, *before.order_of)
    if not live(z) or not z.ndim:
        return UNSEEN
    position = {"topk": 2, "kthvalue": 2}.get(call.name, 1)
    dim = call.arg(position, "dim", None if call.name == "median" else -1)
    found = call.run()
    if not isinstance(dim, int):
        return found
    index = found if isinstance(found, Tensor) else found[1]
    if not isinstance(index, Tensor) or index.is_floating_point():
        return found
    keepdim = index.ndim == z.ndim
    at = index if keepdim else index.unsqueeze(dim)
    scale = spread_along(z, dim % z.ndim)
    met = mode.record.note(call.name, 1.0, scale)
    members = None
    if call.name == "topk" and at.shape[dim] < z.shape[dim]:
        members = _members(z, at.shape[dim], dim, call.arg(3, "largest", True), scale)
        if met is not None:
            members = straight_through(members.detach(), members, met)
    choice = likely_places(z, at, dim, scale)
    if choice is not None:
        with_choice(index, choice if keepdim else choice.squeeze(dim % z.ndim), met, members)
    else:
        attach(index, Shadow(straight_through(index.float(), index.float()), None, members))
    if call.name in ("argsort", "sort"):
        shadow = shadow_of(index)
        assert shadow is not None
        descending = bool(call.arg(2, "descending", False))
        attach(index, Shadow(shadow.value, shadow.choice, None, (z, dim, descending)))
    return found


def likely_places(z: Tensor, at: Tensor, dim: int, scale: Tensor) -> Tensor | None:
    """How likely each element along ``dim`` is the one at ``at``, [*at.shape, n]; None if too many."""
    values, rows = z.gather(dim, at).movedim(dim, -1), z.movedim(dim, -1)
    if values.numel() * rows.shape[-1] > MOST_PAIRS:
        return None
    soft = -(values[..., :, None] - rows[..., None, :]).abs()
    choice = (soft / scale.to(z.dtype).movedim(dim, -1)[..., None]).softmax(-1)
    return choice.movedim(-2, dim % z.ndim)


def _members(z: Tensor, k: int, dim: int, top: bool, scale: Tensor) -> Tensor:
    """How likely each element is among the k largest: a sigmoid about the middle between k-th and next."""
    edge = z.topk(k + 1, dim, largest=top).values.narrow(dim, k - 1, 2).mean(dim, keepdim=True)
    gap = z - edge if top else edge - z
    return torch.sigmoid(gap / scale.to(z.dtype)).float()


def _ranks(mode: Relaxing, call: Call, z: Tensor, dim: int, descending: bool) -> Tensor:
    """A rank counts the elements that come before: it rises with its own element and falls with the others'.

    So an element that never changes has a rank with a slope, too. Too many pairs to keep leave the own slope.
    """
    real = call.real()
    scale = spread_along(z, dim % z.ndim)
    met = mode.record.note("rank", 1.0, scale)
    sign = -1.0 if descending else 1.0
    rows = z.movedim(dim, -1).float()
    if rows.numel() * rows.shape[-1] <= MOST_PAIRS:
        gaps = sign * (rows[..., :, None] - rows[..., None, :]) / scale.movedim(dim, -1)[..., None]
        soft = gaps.sigmoid().sum(-1).movedim(-1, dim)
        return attach(real, Shadow(straight_through(real.float(), soft, met)))
    # So many elements as lie in a stretch of the range have their rank raised by moving across it.
    slope = (sign * z.shape[dim] / (4 * scale)).expand(z.shape)
    return attach(real, Shadow(sloped(real.float(), z.float(), slope, met)))


def bucketize(mode: Relaxing, call: Call) -> Any:
    """bucketize and searchsorted: the number of the bin grows with what falls into it."""
    x = call.arg(0, "input") if call.name == "bucketize" else call.arg(1, "input", call.kwargs.get("values"))
    edges = call.arg(1, "boundaries") if call.name == "bucketize" else call.arg(0, "sorted_sequence")
    if not live(x) or not isinstance(edges, Tensor) or edges.shape[-1] < 2:
        return UNSEEN
    real = call.real()
    width = (edges[..., -1:] - edges[..., :1]).detach().float().clamp_min(1e-30) / (edges.shape[-1] - 1)
    slope = (1 / width).expand(x.shape) if width.numel() == 1 or width.ndim == x.ndim else 1 / width.mean()
    return attach(real, Shadow(sloped(real.float(), x.float(), slope, mode.record.note(call.name))))


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


def most_frequent(mode: Relaxing, call: Call) -> Any:
    """mode of several votes: a class is as likely as its share of them."""
    votes, dim = first(call), call.arg(1, "dim", -1)
    shadow = shadow_of(votes)
    if shadow is None or shadow.choice is None:
        return UNSEEN
    found = call.run()
    likely = shadow.choice.mean(dim % votes.ndim, keepdim=bool(call.arg(2, "keepdim", False)))
    with_choice(found[0], likely, mode.record.note("mode"))
    return found


def scatter(mode: Relaxing, call: Call) -> Any:
    """Numbers put where chosen indices point: scatter, scatter_add and those with one value."""
    base, dim, index = call.arg(0, "input"), call.arg(1, "dim"), call.arg(2, "index")
    value = call.arg(3, "src", call.kwargs.get("value"))
    shadow = shadow_of(index)
    if shadow is None or not isinstance(dim, int) or call.kwargs.get("reduce"):
        return UNSEEN
    real, dim = call.run(), dim % index.ndim
    number = graph_of(value)
    same = isinstance(number, int | float) or bool((number == number.flatten()[:1]).all())
    if shadow.members is not None and same and shadow.members.shape == real.shape:
        soft = shadow.members
    elif (choice := shadow.choice) is not None and choice.shape[-1] == real.shape[dim]:
        weight = 1.0 if isinstance(number, int | float) else number[tuple(map(slice, index.shape))][..., None]
        soft = (choice * weight).movedim(dim, 0).sum(0).movedim(-1, dim)
        same = same and not isinstance(number, Tensor)
        if isinstance(number, Tensor):
            number = 1.0
    else:
        return real
    if soft.shape != real.shape or not soft.requires_grad:
        return real
    if isinstance(number, Tensor):
        number = float(number.flatten()[0])
    # Booleans have no difference.
    before = base.detach().float() if base.dtype == torch.bool else base.detach()
    gap = torch.as_tensor(number if call.name == "scatter_add" else float(number) - before)
    # An infinite number masks: where it is put has no slope, and 0 times it would be NaN.
    extra = (soft - soft.detach()) * gap.where(gap.isfinite(), 0)
    met = mode.record.note("scatter")
    if not real.is_floating_point():
        return attach(real, Shadow(straight_through(real.float(), extra.float(), met)))
    extra = straight_through(torch.zeros_like(real), extra.to(real.dtype), met)
    return (
        straight_through(real.detach(), real + extra) if real.requires_grad else straight_through(real, extra)
    )


def bernoulli(mode: Relaxing, call: Call) -> Any:
    """bernoulli: its expectation is the probability."""
    p = first(call)
    if not live(p) or (len(call.args) > 1 and isinstance(call.args[1], int | float)):
        return UNSEEN
    return sloped(call.real(), p, 1.0, mode.record.note(call.name))


# What a call draws anew.
SAMPLED = ("bernoulli",)

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("argmax", "argmin"), argmax),
    **dict.fromkeys(("max", "min"), extreme),
    **dict.fromkeys(("sort", "argsort", "topk", "kthvalue", "median", "msort"), sort),
    **dict.fromkeys(("bucketize", "searchsorted"), bucketize),
    "one_hot": one_hot,
    "mode": most_frequent,
    **dict.fromkeys(("scatter", "scatter_add"), scatter),
    "bernoulli": bernoulli,
}
