"""Weights under other names: one network out of a wrapper with several."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_coded.models.refusal import COUNTER, Refused
from robustbench_coded.models.state_dict import (
    NESTS,
    NORMALISATION_BUFFERS,
    NOT_WEIGHTS,
    UNUSED,
    StateDict,
    another,
    stripped,
)

# A network has more weights than this under one name, and a file few such names.
MIN_WEIGHTS = 4
MAX_PARTS = 4
MAX_DEPTH = 4


# What a layer is called in one implementation, and in another of the same network.
SYNONYMS: tuple[dict[str, str], ...] = (
    {"fc": "linear", "classifier": "linear", "head": "linear", "downsample": "shortcut"},
    {"linear": "fc", "classifier": "fc", "head": "fc", "shortcut": "downsample"},
)


@dataclass(frozen=True)
class Reading:
    """A state dict as its names may be meant.

    Attributes:
        weights: under the names of this reading.
        wrapper: the part that was taken off.
        complete: whether all weights of the file are still there.
        whole: whether it was taken off every name.
    """

    weights: StateDict
    wrapper: str
    complete: bool
    whole: bool = False


def readings(weights: StateDict) -> Iterator[Reading]:
    """The state dict with further parts taken off its names, or other names; likelier readings first."""
    candidates = [Reading(weights, "", complete=True), *_unwrapped(weights)]
    yield from candidates[1:]
    for reading in candidates:
        for synonyms in SYNONYMS:
            if (renamed := _renamed(reading.weights, synonyms)) is not None:
                yield replace(reading, weights=renamed, whole=False)


def _renamed(weights: StateDict, synonyms: dict[str, str]) -> StateDict | None:
    """With parts of names as another implementation has them; None where there are no such parts."""
    names = {name: ".".join(synonyms.get(part, part) for part in name.split(".")) for name in weights.tensors}
    parts = {part for name in weights.tensors for part in name.split(".")}
    sentences = [f"{old} is read as {new}" for old, new in synonyms.items() if old in parts]
    if not sentences or len(set(names.values())) < len(names):
        return None
    tensors = {names[name]: tensor for name, tensor in weights.tensors.items()}
    return replace(weights, tensors=tensors, notes=(*weights.notes, ", ".join(sentences)))


def _unwrapped(weights: StateDict) -> Iterator[Reading]:
    """With further parts taken off; at most a dozen."""
    for _ in range(MAX_DEPTH):
        parts = {name.partition(".")[0] for name in weights.tensors}
        if len(parts) != 1 or not all("." in name for name in weights.tensors):
            break
        prefix = f"{parts.pop()}."
        off = {name.removeprefix(prefix): tensor for name, tensor in weights.tensors.items()}
        weights = _read(weights, off, prefix, f"{prefix} is taken off every name")
        yield Reading(weights, prefix, complete=True, whole=True)
    for part in _likely(weights):
        prefix = f"{part}."
        off, outside = {}, []
        for name, tensor in weights.tensors.items():
            if name.startswith(prefix):
                off[name.removeprefix(prefix)] = tensor
            else:
                outside.append(name)
        beside = {name: weights.tensors[name] for name in outside if name not in off}
        if len(beside) == len(outside):
            note = f"{prefix} is taken off the names that have it"
            yield Reading(_read(weights, {**off, **beside}, prefix, note), prefix, complete=True)
        note = (
            f"the network is what lies under {prefix}; {len(outside)} other weights ({outside[0][:60]}, ...)"
        )
        yield Reading(_read(weights, off, prefix, f"{note} are not used"), prefix, complete=False)


def one_of(fitting: list[Reading]) -> Reading:
    """The reading to take of those that fit: a complete one, else what a training program would mean.

    Raises:
        Refused: the file holds several networks and nothing says which, or more than what fits.
    """
    for reading in fitting:
        if reading.complete:
            return reading
        if reading.wrapper.removesuffix(".") in NESTS:
            return _whole(reading, fitting)
    if len(fitting) > 1:
        names = ", ".join(reading.wrapper for reading in fitting)
        raise Refused(
            f"weights of several networks, under {names}; name one, as "
            f"FILE#{fitting[0].wrapper.removesuffix('.')}"
        )
    return _whole(fitting[0], fitting)


def _whole(reading: Reading, fitting: list[Reading]) -> Reading:
    """The same reading of a part, where the rest of the file is a copy of it, or a network like it.

    Raises:
        Refused: other weights stand beside it, which may be of the same network.
    """
    taken = [*reading.weights.tensors.values()]
    apart = {*NESTS, *(other.wrapper.removesuffix(".") for other in fitting)}
    for name, tensor in reading.weights.original.items():
        part = name.rpartition(".")[2]
        needless = part == COUNTER or name.startswith((*UNUSED, *NOT_WEIGHTS))
        beside = not apart.isdisjoint(name.split(".")) or any(part in pair for pair in NORMALISATION_BUFFERS)
        if needless or beside:
            continue
        if not any(same.shape == tensor.shape and torch.equal(same, tensor) for same in taken):
            entry = reading.wrapper.removesuffix(".")
            raise Refused(
                f"beside the network under {entry} it has other weights ({name[:60]}), which may be a part "
                f"of it; FILE#{entry} evaluates only this part, --arch file.py:build the whole"
            )
    return reading


def beside_others(chosen: Reading, fitting: list[Reading]) -> StateDict:
    """The weights of a reading, with a note that says how another network of the file is evaluated."""
    others = [
        reading.wrapper.removesuffix(".")
        for reading in fitting
        if not chosen.complete and not reading.complete and reading.wrapper != chosen.wrapper
    ]
    notes = tuple(another(name) for name in others[:1])
    return replace(chosen.weights, notes=(*chosen.weights.notes, *notes))


def _likely(weights: StateDict) -> list[str]:
    """First parts of many names, those first that training programs use."""
    parts = Counter(name.partition(".")[0] for name in weights.tensors if "." in name)
    common = [part for part, count in parts.most_common(MAX_PARTS) if count >= MIN_WEIGHTS]
    return sorted(common, key=lambda part: NESTS.index(part) if part in NESTS else len(NESTS))


def _read(weights: StateDict, tensors: dict[str, Tensor], prefix: str, note: str) -> StateDict:
    inner = stripped(tensors, weights.nesting, weights.dtypes)
    return replace(
        inner,
        original=weights.original,
        prefixes=(*weights.prefixes, prefix, *inner.prefixes),
        dropped=(*weights.dropped, *inner.dropped),
        normalisation=weights.normalisation or inner.normalisation,
        notes=(*weights.notes, note),
    )
