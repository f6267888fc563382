"""The state dict in a file, whatever nests it: prefixes, several entries, normalisation buffers,
parametrised weights.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustbench_coded.models.normalisation import Normalisation, named
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


# Where files of training programs keep the weights; the first of these that is there is taken, at each level.
NESTS = (
    "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "last", "best", "ema",
    "state_dict_ema", "ema_state_dict", "model_ema", "checkpoint", "model_state", "state", "best_state_dict",
    "best_model_state_dict", "best_model", "last_state_dict", "last_model", "ema_model",
    "ema_model_state_dict", "model_ema_state_dict", "ema_net", "net_ema", "ema_weights",
    "swa_state_dict", "swa_model", "swa", "model_swa", "swa_model_state_dict", "wa_model",
    "averaged_model", "averaged", "avg_model", "average", "unaveraged_model_state_dict",
)  # fmt: skip

# What else they keep that holds tensors, and never the network's weights.
NOT_WEIGHTS = ("optim", "sched", "scaler", "swa_opt", "rng", "loss", "criterion")

# What wrappers put before every name: DataParallel, torch.compile, and networks behind a normalisation.
PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "basic_net.", "1.",
)  # fmt: skip

# The names of a normalisation's buffers, as the last part of a weight's name.
NORMALISATION_BUFFERS = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"))

# Weights that a file may have without the network using them: a counter of averaged models, and the block
# that the TRADES authors' wide ResNet makes and never calls.
UNUSED = ("n_averaged", "sub_block1.")


@dataclass(frozen=True)
class StateDict:
    """The weights of a checkpoint; floating ones in float32, on the CPU.

    Attributes:
        tensors: the weights under the names of the architectures, without the normalisation's buffers;
            those that the file keeps in parts (weight norm, spectral norm, masks) are plain.
        original: all of them, as they are and under the names in the file.
        nesting: the entries that they lay under, from the outside.
        prefixes: what was taken off every name, from the outside.
        dropped: weights of the file that no network uses.
        dtypes: number of tensors by type, as stored.
        normalisation: that of the buffers in the file; None where it has none.
        notes: what was chosen among several in the file, or left out, a sentence each.
        networks: where the file has several with layers of the same shapes and other values, their names as
            ``#ENTRY`` takes them, the one that was taken first.
    """

    tensors: dict[str, Tensor]
    original: dict[str, Tensor]
    nesting: tuple[str, ...]
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]
    dtypes: dict[str, int]
    normalisation: Normalisation | None
    notes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def read_state_dict(contents: Any, available: int, entry: str | None = None) -> StateDict:
    """Finds the weights in what a file holds.

    Args:
        contents: the object in the file.
        available: bytes of the file.
        entry: name of the entry, or first part of the weights' names, that the network lies under; None for
            the first one that is known.
    Raises:
        Refused: no weights in it, or weights that are no numbers.
    """
    stored, nesting, notes, networks = _unwrap(contents, entry)
    # Many views of one storage would be many copies.
    if sum(tensor.nbytes for tensor in stored.values()) > 2 * available:
        raise Refused("its weights are larger than the file")
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in stored.values())
    original = {name: _float32(name, tensor) for name, tensor in stored.items()}
    plain, folds = folded(original)
    read = stripped(plain, nesting, dict(sorted(dtypes.items())))
    return replace(read, original=original, notes=(*notes, *folds), networks=networks)


def _unwrap(
    contents: Any, entry: str | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str], tuple[str, ...]]:
    """The weights, the entries they lay under, what was passed over for them, and ``networks``."""
    nesting: list[str] = []
    notes: list[str] = []
    beside: list[tuple[str, dict[str, Any]]] = []
    while isinstance(contents := _alone(contents), Mapping) and len(nesting) < 4:
        if entry is not None and isinstance(_alone(contents.get(entry)), Mapping):
            chosen, entry = entry, None
        else:
            nests = _nests(contents)
            if not nests:
                break
            known = [name for name in NESTS if name in nests]
            if not known and len(nests) > 1:
                raise Refused(f"weights under {', '.join(nests)[:100]}; name one, as FILE#{nests[0][:60]}")
            chosen, *others = known or nests
            if others and entry is None:
                said = ", ".join(others)[:100]
                notes.append(
                    f"the weights are those under {chosen}; FILE#{others[0]} evaluates another ({said})"
                )
            beside.append((chosen, _entries(contents)))
        nesting.append(chosen)
        contents = contents[chosen]
    tensors = _tensors(contents)
    if entry is not None:
        tensors = {name: one for name, one in tensors.items() if name.startswith(f"{entry}.")}
        if not tensors:
            has = [name for _, entries in beside for name in entries if len(entries) > 1]
            has = has or list(dict.fromkeys(name.partition(".")[0] for name in _tensors(contents)))
            raise Refused(f"no weights under {entry[:60]} in it; it has {', '.join(has)[:100]}")
        beside = []
    if not tensors:
        raise Refused(f"no weights in it; expected a state dict, alone or under {', '.join(NESTS[:6])}")
    for own, entries in beside:
        if others := [name for name, one in entries.items() if name != own and _alike(one, tensors)]:
            return tensors, tuple(nesting), notes, (own, *others)
    return tensors, tuple(nesting), notes, ()


def _alike(contents: Any, tensors: Mapping[str, Tensor]) -> bool:
    """Whether an entry holds layers of the same shapes, and not the very same values."""
    try:
        inside = _unwrap(contents)[0]
    except Refused:
        return False
    ours, theirs = ([one for one in kept.values() if one.ndim > 1] for kept in (tensors, inside))
    if not theirs or Counter(one.shape for one in ours) != Counter(one.shape for one in theirs):
        return False
    return not same_values(list(tensors.values()), list(inside.values()))


def same_values(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether two networks have the same values in the same order."""
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )


def _nests(contents: Mapping[Any, Any]) -> list[str]:
    """Entries that may hold the weights: by their names, else whatever has tensors with names in it."""
    inside = _entries(contents)
    known = [name for name in NESTS if name in inside]
    if known or _tensors(contents):
        return known
    others = {name: one for name, one in inside.items() if not name.lower().startswith(NOT_WEIGHTS)}
    direct = [name for name, one in others.items() if _tensors(one)]
    return direct or [name for name, one in others.items() if _tensors_below(one, 3)]


def _entries(contents: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    opened = {name: _alone(one) for name, one in contents.items() if isinstance(name, str)}
    return {name: one for name, one in opened.items() if isinstance(one, Mapping)}


def _alone(contents: Any) -> Any:
    """The state dict in a list of one, as certified training stores it (arXiv 1805.12514); else the same.

    Raises:
        Refused: a list of several.
    """
    if not isinstance(contents, list) or not contents or not all(map(_tensors, contents)):
        return contents
    if len(contents) > 1:
        raise Refused(
            f"a list of {len(contents)} state dicts, a cascade whose networks answer in turn: it is not "
            "evaluated; for one of them, torch.save(torch.load(FILE)['state_dict'][0], NEW_FILE)"
        )
    return contents[0]


def _tensors_below(contents: Any, levels: int) -> bool:
    if levels == 0 or not isinstance(contents, Mapping):
        return False
    return bool(_tensors(contents)) or any(_tensors_below(one, levels - 1) for one in contents.values())


def _tensors(contents: Any) -> dict[str, Tensor]:
    if not isinstance(contents, Mapping):
        return {}
    return {
        name: value for name, value in contents.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def _float32(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().contiguous()
    converted = tensor.detach().to(torch.float32).contiguous()
    bad = int((~converted.isfinite()).sum())
    if bad:
        raise Refused(
            f"weight {name[:60]} has {bad} NaN or infinite values of {converted.numel()}: its training "
            "diverged, or the file is damaged; take another checkpoint"
        )
    if name.endswith("running_var") and (converted < 0).any():
        raise Refused(f"weight {name[:60]} is a variance below 0: damaged")
    return converted


def stripped(original: dict[str, Tensor], nesting: tuple[str, ...], dtypes: dict[str, int]) -> StateDict:
    """Takes off shared prefixes, unused weights and the normalisation's buffers, however they are stacked."""
    tensors, prefixes, dropped, normalisation = dict(original), [], [], None
    while True:
        dropped += [name for name in tensors if name.startswith(UNUSED)]
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
        shared = next(
            (prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None
        )
        pair = _normalisation_buffers(tensors) if normalisation is None else None
        if tensors and shared is not None:
            tensors = {name.removeprefix(shared): tensor for name, tensor in tensors.items()}
            prefixes.append(shared)
        elif pair is not None:
            normalisation = _normalisation(*pair, tensors)
            tensors = {name: tensor for name, tensor in tensors.items() if name not in pair}
        else:
            return StateDict(
                tensors, original, nesting, tuple(prefixes), tuple(dropped), dtypes, normalisation
            )


def _normalisation(mean_name: str, std_name: str, tensors: Mapping[str, Tensor]) -> Normalisation:
    mean, std = (tensors[name].double().flatten() for name in (mean_name, std_name))
    if mean.max() > 1:  # for pixels up to 255: the same map on [0, 1]
        mean, std = mean / 255, std / 255
    try:
        return named(tuple(mean.tolist()), tuple(std.tolist()))
    except ValueError as error:
        raise Refused(f"its normalisation {mean_name}, {std_name}: {error}") from None


def _normalisation_buffers(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The names of the one mean and deviation per channel among the weights."""
    pairs = []
    for mean_name, std_name in NORMALISATION_BUFFERS:
        for name, tensor in tensors.items():
            scope, _, last = name.rpartition(".")
            other = f"{scope}.{std_name}" if scope else std_name
            if last != mean_name or other not in tensors:
                continue
            if tensor.numel() == tensors[other].numel() and tensor.numel() in (1, 3):
                pairs.append((name, other))
    # Wrappers inside wrappers keep copies.
    values = {tuple(tuple(tensors[name].flatten().tolist()) for name in pair) for pair in pairs}
    return pairs[0] if len(values) == 1 else None
