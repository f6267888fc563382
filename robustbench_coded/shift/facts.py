"""What shift.json says about the sets, and where their images lie in the run's data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from robustbench_coded.errors import InputError
from robustbench_coded.schema.manifest import ManifestError, RunManifest, manifest_data, manifest_from
from robustbench_coded.shift.sets import CLEAN, ShiftSet

_CHUNK = 50  # images read at a time: few enough for a processor's cache


class SetFacts(msgspec.Struct, frozen=True):
    """One set.

    Attributes:
        start: where its block begins in the run's data.
        examples: images that are scored.
        sha256: of their pixels.
        mean, deviation: of all their values, from 0 to 255.
        psnr: peak signal-to-noise ratio against the clean images in dB; None where these are not there, or
            are the set itself.
    """

    collection: str
    name: str
    severity: int
    start: int
    examples: int
    sha256: str
    mean: float
    deviation: float
    psnr: float | None


class ShiftFacts(msgspec.Struct, frozen=True):
    """What may not change within a shift run, beside the evaluation's own facts."""

    sets: tuple[SetFacts, ...]
    k: int
    limit: int | None
    subset: str | None
    seed: int
    baseline: str


def block_starts(sizes: Sequence[int], k: int) -> np.ndarray:
    """[blocks + 1]: where each block begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum([-(-size // k) * k for size in sizes])])


def facts_of(sets: Sequence[ShiftSet], k: int) -> tuple[SetFacts, ...]:
    """Reads every image once."""
    starts = block_starts([len(one) for one in sets], k)
    clean = {one.collection: one for one in sets if one.name == CLEAN}
    found = []
    for one, start in zip(sets, starts):
        beside = clean.get(one.collection) if one.corrupted else None
        found.append(_facts(one, int(start), beside))
    return tuple(found)


def _facts(one: ShiftSet, start: int, clean: ShiftSet | None) -> SetFacts:
    digest = hashlib.sha256()
    count = total = squares = errors = 0.0
    for first in range(0, len(one), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        pixels = np.ascontiguousarray(one.images[one.rows[chunk]])
        digest.update(pixels.tobytes())
        values = pixels.astype(np.float64).ravel()
        count += values.size
        # Whole numbers below 2^53: exact in any order.
        total += float(values.sum())
        squares += float(values @ values)
        if clean is not None:
            values -= clean.images[clean.rows[chunk]].ravel()
            errors += float(values @ values)
    mean = total / count
    psnr = None if clean is None or errors == 0 else 10 * float(np.log10(255**2 / (errors / count)))
    return SetFacts(
        one.collection, one.name, one.severity, start, len(one), digest.hexdigest(),
        round(mean, 4), round(max(squares / count - mean**2, 0) ** 0.5, 4),
        None if psnr is None else round(psnr, 4),
    )  # fmt: skip


def as_data(facts: ShiftFacts, manifest: RunManifest) -> dict[str, Any]:
    """The content of shift.json."""
    return {"shift": msgspec.to_builtins(facts), "evaluation": manifest_data(manifest)}


def from_data(data: dict[str, Any], where: str) -> tuple[ShiftFacts, RunManifest]:
    """shift.json, checked.

    Raises:
        InputError: a part is missing or of the wrong kind.
    """
    try:
        facts = msgspec.convert(data.get("shift"), ShiftFacts)
        return facts, manifest_from(data.get("evaluation"))
    except (msgspec.ValidationError, ManifestError) as error:
        raise InputError(f"{where}: {error}; restore it, or start the run anew with --overwrite") from error
