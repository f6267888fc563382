"""Weights that a file keeps in parts: weight norm, spectral norm and pruning, as torch names their parts.

In eval mode each is a plain weight in closed form, so it is computed once and the network is any other.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_coded.models.refusal import Refused

Parts = Mapping[str, Tensor]

FOLDED = "is folded into"  # in the sentences that say so

# A part that is left over belongs to a parametrisation of another kind.
LEFT_OVER = re.compile(r"(^|\.)parametrizations\.|_orig$")


class Kind(NamedTuple):
    """One parametrisation.

    Attributes:
        said: what notes call it.
        parts: names of its tensors, made of the layer's prefix and the weight's name.
        folded: the weight of these parts, in this order; None where their shapes are not of this kind.
    """

    said: str
    parts: tuple[str, ...]
    folded: Callable[..., Tensor | None]


def _weight_norm(length: Tensor, direction: Tensor) -> Tensor | None:
    """g v / |v| (arXiv 1602.07868), with a length for every index of one dimension, or for the whole."""
    if length.ndim == 0:
        return direction * (length / torch.linalg.vector_norm(direction))
    if length.ndim != direction.ndim:
        return None
    over = [dim for dim, size in enumerate(length.shape) if size == 1]
    kept = [dim for dim in range(direction.ndim) if dim not in over]
    if len(kept) > 1 or any(length.shape[dim] != direction.shape[dim] for dim in kept):
        return None
    return direction * (length / torch.linalg.vector_norm(direction, dim=over, keepdim=True))


def _spectral_norm(weight: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """W / (u W v) (arXiv 1802.05957): u and v are the singular vectors that training has come to."""
    # Dimension 0 is that of the outputs, or 1 in transposed convolutions.
    for dim in range(min(2, weight.ndim)):
        rows = weight.transpose(0, dim).flatten(1)
        if rows.shape == (left.numel(), right.numel()):
            return weight / torch.dot(left.flatten(), rows @ right.flatten())
    return None


def _pruned(weight: Tensor, mask: Tensor) -> Tensor | None:
    """The weight where its mask is 1."""
    return weight * mask if weight.shape == mask.shape else None


# Of torch's older functions, then of torch.nn.utils.parametrizations. ``{}`` is the name of the weight.
KINDS = (
    Kind("weight norm", ("{}_g", "{}_v"), _weight_norm),
    Kind("weight norm", ("parametrizations.{}.original0", "parametrizations.{}.original1"), _weight_norm),
    Kind("spectral norm", ("{}_orig", "{}_u", "{}_v"), _spectral_norm),
    Kind(
        "spectral norm",
        ("parametrizations.{}.original", "parametrizations.{}.0._u", "parametrizations.{}.0._v"),
        _spectral_norm,
    ),
    Kind("a mask of pruning", ("{}_orig", "{}_mask"), _pruned),
)


def folded(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors with plain weights in place of such parts, and a sentence for each kind that was folded.

    Args:
        tensors: by name, floating ones in float32.
    Raises:
        Refused: parts that make no finite weight.
    """
    found = dict(tensors)
    notes = []
    for kind in KINDS:
        plain: dict[str, tuple[str, Tensor]] = {}
        parts_of: dict[str, list[str]] = {}
        for name in _weights(kind, found):
            first, *others = parts = [_named(part, name) for part in kind.parts]
            weight = kind.folded(*(found[part] for part in parts)) if name not in found else None
            if weight is None:
                continue
            if not weight.isfinite().all():
                raise Refused(f"{kind.said} of {name[:60]} is of a weight that is 0: damaged")
            plain[first], parts_of[first] = (name, weight), others
        gone = {other for others in parts_of.values() for other in others}
        # A weight stands where the first of its parts did: the order of the layers says something, too.
        found = dict(plain.get(name, (name, tensor)) for name, tensor in found.items() if name not in gone)
        if plain:
            notes.append(f"{kind.said} {FOLDED} {len(plain)} weights")
    return found, tuple(notes)


def _weights(kind: Kind, tensors: Parts) -> list[str]:
    """Names of the weights whose parts of that kind are all there."""
    before, after = kind.parts[0].split("{}")
    pattern = re.compile(rf"(?P<scope>|.*\.){re.escape(before)}(?P<own>[^.]+?){re.escape(after)}")
    matches = (pattern.fullmatch(name) for name in tensors)
    names = [match["scope"] + match["own"] for match in matches if match is not None]
    return [name for name in names if all(_named(part, name) in tensors for part in kind.parts)]


def _named(part: str, weight: str) -> str:
    """The name of a part of ``weight``, which may have a layer's prefix."""
    scope, dot, own = weight.rpartition(".")
    return scope + dot + part.format(own)
