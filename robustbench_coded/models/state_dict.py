"""The state dict in a file, whatever nests it: prefixes, several entries, normalisation buffers, wrappers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.models.normalisation import Normalisation, named
from robustbench_coded.models.refusal import Refused

EVALUATES_ANOTHER = "evaluates another"  # in the sentences about further networks of a file

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

# The names of a normalisation's buffers, as the last part of a weight's name.
NORMALISATION_BUFFERS = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"))

DEEPEST = 8  # entries on the way to weights, and parts that all of their names begin with

# Weights that a file may have without the network using them: a counter of averaged models, the block that
# the TRADES authors' wide ResNet makes and never calls, and a second copy in the library robustness.
UNUSED = ("n_averaged", "sub_block1.", "attacker.")


@dataclass(frozen=True)
class StateDict:
    """The weights of a checkpoint; floating ones in float32, on the CPU.

    Attributes:
        tensors: the weights under the names of the architectures, without the normalisation's buffers.
        original: all of them, as they are and under the names in the file.
        nesting: the entries that they lay under, from the outside.
        prefixes: what was taken off every name, from the outside.
        dropped: weights of the file that no network uses.
        normalisation: that of the buffers in the file; None where it has none.
        notes: what was chosen among several in the file, or left out, a sentence each.
    """

    tensors: dict[str, Tensor]
    original: dict[str, Tensor]
    nesting: tuple[str, ...]
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]
    normalisation: Normalisation | None
    notes: tuple[str, ...] = ()


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
    stored, nesting, notes = _unwrap(contents, entry)
    # Many views of one storage would be many copies, and a zero among the sides may hide an absurd one.
    longest = max((0, *(side for tensor in stored.values() for side in tensor.shape)))
    if longest > available or sum(tensor.nbytes for tensor in stored.values()) > 2 * available:
        raise Refused("its weights are larger than the file: damaged; copy or download it again")
    original = {name: as_float32(name, tensor) for name, tensor in stored.items()}
    return replace(stripped(original), nesting=nesting, notes=tuple(notes))


def _unwrap(contents: Any, entry: str | None) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    """The weights, the entries they lay under, and what was passed over for them."""
    wanted = [] if entry is None else entry.split("/")
    left, nesting, notes, passed = [*wanted], list[str](), list[str](), list[str]()
    while isinstance(contents := _alone(contents), Mapping) and len(nesting) < DEEPEST:
        inside = _entries(contents)
        nests = _nests(contents, inside)
        if left and left[0] in inside:
            chosen = left.pop(0)
        elif not nests or 0 < len(left) < len(wanted):
            passed += inside
            break
        else:
            known = [name for name in NESTS if name in nests]
            if not known and len(nests) > 1:
                raise Refused(f"weights under {', '.join(nests)[:100]}; name one, as FILE#{nests[0][:60]}")
            chosen, *others = known or nests
            others = [name for name in others if _tensors_below(inside[name])]
            if others and entry is None:
                names = ", ".join(others)[:100]
                notes.append(f"the weights are those under {chosen}; {another(others[0])} ({names})")
        passed += inside
        nesting.append(chosen)
        contents = contents[chosen]
    tensors = _tensors(contents)
    if left:
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{left[0]}.")}
        has = [*passed, *dict.fromkeys(name.partition(".")[0] for name in _tensors(contents))]
        if not tensors:
            raise Refused(f"no weights under {'/'.join(wanted)[:60]} in it; it has {', '.join(has)[:100]}")
    if not tensors:
        raise Refused(f"no weights in it; expected a state dict, alone or under {', '.join(NESTS[:6])}")
    return tensors, tuple(nesting), notes


def another(entry: str) -> str:
    """How another network of the file is evaluated: the end of a sentence."""
    return f"FILE#{entry} {EVALUATES_ANOTHER}"


def _nests(contents: Mapping[Any, Any], inside: Mapping[str, Any]) -> list[str]:
    """Entries that may hold the weights: by their names, else whatever has tensors with names in it."""
    known = [name for name in NESTS if name in inside]
    if known or _tensors(contents):
        return known
    others = {name: value for name, value in inside.items() if not name.lower().startswith(NOT_WEIGHTS)}
    direct = [name for name, value in others.items() if _tensors(value)]
    return direct or [name for name, value in others.items() if _tensors_below(value)]


def _entries(contents: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    opened = {name: _alone(value) for name, value in contents.items() if isinstance(name, str)}
    return {name: value for name, value in opened.items() if isinstance(value, Mapping) and value}


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


def _tensors_below(contents: Any, levels: int = DEEPEST) -> bool:
    if levels == 0 or not isinstance(contents, Mapping):
        return False
    return bool(_tensors(contents)) or any(_tensors_below(value, levels - 1) for value in contents.values())


def _tensors(contents: Any) -> dict[str, Tensor]:
    if not isinstance(contents, Mapping):
        return {}
    return {
        name: value for name, value in contents.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def as_float32(name: str, tensor: Tensor) -> Tensor:
    """A weight with floating numbers in float32.

    Raises:
        Refused: NaN or infinite values, a variance below 0.
    """
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


def stripped(original: dict[str, Tensor]) -> StateDict:
    """Takes off what all names begin with (``module.``, ``_orig_mod.``, ``model.`` of wrappers), unused
    weights and the normalisation's buffers, however they are stacked.
    """
    tensors, prefixes, dropped, normalisation = dict(original), list[str](), [], None
    while True:
        dropped += [name for name in tensors if name.startswith(UNUSED)]
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
        first = {name[: name.find(".") + 1] for name in tensors}
        pair = _normalisation_buffers(tensors) if normalisation is None else None
        if len(first) == 1 and "" not in first and len(prefixes) < DEEPEST:
            prefixes += first
            tensors = {name.removeprefix(prefixes[-1]): tensor for name, tensor in tensors.items()}
        elif pair is not None:
            normalisation = _normalisation(*pair, tensors)
            tensors = {name: tensor for name, tensor in tensors.items() if name not in pair}
        else:
            return StateDict(tensors, original, (), tuple(prefixes), tuple(dropped), normalisation)


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
    return pairs[0] if len(pairs) == 1 else None
