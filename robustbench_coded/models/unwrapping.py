"""Weights under further parts of their names: one network out of a wrapper with several."""

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


@dataclass(frozen=True)
class Reading:
    """A state dict as its names may be meant.

    Attributes:
        weights: under the names of this reading.
        part: that was taken off.
        outside: names without that part.
        complete: whether the weights outside are still there.
    """

    weights: StateDict
    part: str
    outside: tuple[str, ...]
    complete: bool


def readings(weights: StateDict, depth: int = 0) -> Iterator[Reading]:
    """The state dict with further parts taken off its names, likelier readings first; at most a dozen."""
    for part in _likely(weights) if depth < MAX_DEPTH else ():
        prefix = f"{part}."
        off = {name.removeprefix(prefix): x for name, x in weights.tensors.items() if name.startswith(prefix)}
        outside = tuple(name for name in weights.tensors if not name.startswith(prefix))
        if off.keys().isdisjoint(outside):
            note = f"{prefix} is taken off {'the names that have it' if outside else 'every name'}"
            beside = {name: weights.tensors[name] for name in outside}
            whole = Reading(_read(weights, {**off, **beside}, prefix, note), part, outside, complete=True)
            yield whole
            if not outside:
                yield from readings(whole.weights, depth + 1)
                continue
        note = f"the network is what lies under {prefix}; {len(outside)} other weights ({outside[0][:60]}, "
        note += "...) are not used"
        yield Reading(_read(weights, off, prefix, note), part, outside, complete=False)


def _likely(weights: StateDict) -> list[str]:
    """First parts of many names, those first that training programs use."""
    parts = Counter(name.partition(".")[0] for name in weights.tensors if "." in name)
    fewest = min(MIN_WEIGHTS, len(weights.tensors))
    common = [part for part, count in parts.most_common(MAX_PARTS) if count >= fewest]
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


def one_of(fitting: list[Reading]) -> StateDict:
    """The weights to take of those that fit: all of them, else what a training program would mean.

    Raises:
        Refused: the file holds several networks and nothing says which, or more than what fits.
    """
    known = [reading for reading in fitting if reading.complete or reading.part in NESTS]
    if not known and len(fitting) > 1:
        names = ", ".join(f"{reading.part}." for reading in fitting)
        raise Refused(f"weights of several networks, under {names}; name one, as FILE#{fitting[0].part}")
    chosen = known[0] if known else fitting[0]
    if chosen.complete:
        return chosen.weights
    apart = {*NESTS, *(reading.part for reading in fitting)}
    if beside := _beside(chosen.weights, apart):
        raise Refused(
            f"beside the network under {chosen.part} it has other weights ({beside[:60]}), which may be a "
            f"part of it; FILE#{chosen.part} evaluates only this part, --arch file.py:build the whole"
        )
    others = [reading.part for reading in fitting if not reading.complete and reading is not chosen]
    return replace(chosen.weights, notes=(*chosen.weights.notes, *map(another, others[:1])))


def _beside(weights: StateDict, apart: set[str]) -> str:
    """The first weight beside a part of a file that may be of the same network: none that it uses, no copy of
    it, and of no network that is known to stand apart. Empty where there is none.
    """
    taken = [*weights.tensors.values()]
    for name, tensor in weights.original.items():
        last = name.rpartition(".")[2]
        needless = last == COUNTER or name.startswith((*UNUSED, *NOT_WEIGHTS))
        if needless or not apart.isdisjoint(name.split(".")) or any(last in p for p in NORMALISATION_BUFFERS):
            continue
        if not any(same.shape == tensor.shape and torch.equal(same, tensor) for same in taken):
            return name
    return ""
