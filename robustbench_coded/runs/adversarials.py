"""Perturbed inputs of units, stored exactly; only inputs that differ from the clean ones are stored.

While a run goes on, each unit has a file in adversarials/; at its end adversarials.safetensors has them all,
each tensor under ``UNIT/name``. Of a unit there are E evaluations (batches as they were scored) and the M
inputs that the attack changed in them:

    batch [E]   index of the batch           slot [M]        place of the input in its batch
    victim [E]  slot that is scored, -1 all  evaluation [M]  which evaluation it belongs to
    known [E]   draw the attacker knew, -1   x [M, C, H, W]  float32 in [0, 1]
"""

import hashlib
import shutil
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.runs.folder import ADVERSARIALS, perturbed_file

EVERY = -1  # victim: the whole batch is scored; known: no draw was known
NAMES = ("batch", "victim", "known", "evaluation", "slot", "x")
MAX_FILE_BYTES = 16 << 30
MAX_BYTES_TOGETHER = 64 << 30


class DamagedAdversarials(Exception):
    """An adversarials file that can't be read, or whose parts are inconsistent."""


@dataclass(frozen=True)
class PerturbedBatch:
    """One batch as it was scored, after an attack.

    Attributes:
        batch: its index.
        victim: the slot that is scored, EVERY for all.
        known: the draw that the attacker knew, EVERY for none.
        slots: [m], places of the inputs that the attack changed.
        x: [m, C, H, W], what they became.
    """

    batch: int
    victim: int
    known: int
    slots: Tensor
    x: Tensor


@dataclass
class Adversarials:
    """Collects the evaluations of a unit."""

    evaluations: list[PerturbedBatch] = field(default_factory=list)

    def add(
        self, batches: Sequence[int], victims: Sequence[int], known: int | None, clean: Tensor, x: Tensor
    ) -> None:
        """G batches after an attack: clean and perturbed inputs [G, K, C, H, W]."""
        clean, x = clean.cpu(), x.cpu()
        changed = (clean != x).flatten(2).any(-1)
        for g, (batch, victim) in enumerate(zip(batches, victims, strict=True)):
            slots = changed[g].nonzero().squeeze(1)
            draw = EVERY if known is None else known
            self.evaluations.append(PerturbedBatch(batch, victim, draw, slots, x[g, slots].clone()))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file."""
        sizes = torch.tensor([len(e.slots) for e in self.evaluations])
        return {
            "batch": torch.tensor([e.batch for e in self.evaluations]),
            "victim": torch.tensor([e.victim for e in self.evaluations]),
            "known": torch.tensor([e.known for e in self.evaluations]),
            "evaluation": torch.repeat_interleave(torch.arange(len(sizes)), sizes),
            "slot": torch.cat([e.slots for e in self.evaluations]),
            "x": torch.cat([e.x for e in self.evaluations]),
        }


def encoded(tensors: dict[str, Tensor]) -> bytes | None:
    """The content of a file, the same for the same inputs; None if no inputs were stored."""
    return save(tensors) if tensors else None


def read_adversarials(run: Path, unit: str) -> list[PerturbedBatch]:
    """The evaluations of a unit of a run folder.

    Raises:
        DamagedAdversarials: they are missing, truncated or altered.
    """
    file, prefix = perturbed_file(run, unit), ""
    if not file.exists():
        file, prefix = run / ADVERSARIALS, f"{unit}/"
    try:
        if file.stat().st_size > (MAX_BYTES_TOGETHER if prefix else MAX_FILE_BYTES):
            raise DamagedAdversarials(f"{file.name} is larger than an adversarials file can be")
        with safe_open(file, "pt") as content:
            names = [name for name in content.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name.removeprefix(prefix): content.get_tensor(name) for name in names}
        if prefix and not tensors:
            raise DamagedAdversarials(f"{file.name} holds no inputs of unit {unit}")
        return _evaluations(tensors, file.name)
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedAdversarials(f"{file.name} can't be read ({type(error).__name__})") from error


def put_together(run: Path, units: Collection[str]) -> None:
    """Puts the perturbed inputs of these units into one file; damaged ones stay where they are."""
    tensors: dict[str, Tensor] = {}
    for unit in units:
        with suppress(DamagedAdversarials):
            stored = Adversarials(read_adversarials(run, unit)).tensors()
            tensors |= {f"{unit}/{name}": tensor for name, tensor in stored.items()}
    if tensors:
        write_bytes(run / ADVERSARIALS, save(tensors))
    for unit in units:
        if f"{unit}/x" in tensors:
            perturbed_file(run, unit).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in there
        (run / "adversarials").rmdir()


def _decoded(content: bytes, name: str) -> list[PerturbedBatch]:
    try:
        return _evaluations(load(content), name)
    except (SafetensorError, ValueError) as error:
        raise DamagedAdversarials(f"{name} can't be read ({type(error).__name__})") from error


def _evaluations(tensors: dict[str, Tensor], name: str) -> list[PerturbedBatch]:
    if set(tensors) != set(NAMES) or tensors["x"].ndim != 4 or tensors["x"].dtype != torch.float32:
        raise DamagedAdversarials(f"{name} does not hold {', '.join(NAMES)}")
    count, inputs = len(tensors["batch"]), len(tensors["x"])
    fits = (
        all(tensors[part].shape == (count,) for part in ("batch", "victim", "known"))
        and all(tensors[part].shape == (inputs,) for part in ("evaluation", "slot"))
        and bool(((tensors["evaluation"] >= 0) & (tensors["evaluation"] < max(count, 1))).all())
    )
    if not fits:
        raise DamagedAdversarials(f"{name} holds parts that do not fit together")
    sizes = torch.bincount(tensors["evaluation"], minlength=count).tolist()
    order = tensors["evaluation"].argsort(stable=True)
    facts = (tensors[part].tolist() for part in ("batch", "victim", "known"))
    inputs_of = (tensors[part][order].split(sizes) for part in ("slot", "x"))
    return [PerturbedBatch(*parts) for parts in zip(*facts, *inputs_of, strict=True)]


FOLDER = "perturbed"
MOST_BYTES = 4 << 30  # of disk; what is stored no more is made again where it is needed
_DIGEST = 16


class PerturbationStore:
    """The perturbed inputs of one run folder, by unit.

    Args:
        path: the run folder.
        most: bytes that may lie on the disk.
    """

    def __init__(self, path: Path, most: int = MOST_BYTES):
        self._folder = path / FOLDER
        self._run = path
        self._free = most - sum(file.stat().st_size for file in self._folder.glob("*"))

    def put(self, unit: str, tensors: dict[str, Tensor], *, whatever_the_size: bool = False) -> None:
        """Stores the perturbed inputs of a unit, as long as there is room."""
        content = encoded(tensors)
        if content is None or (len(content) > self._free and not whatever_the_size):
            return
        self._free -= len(content)
        write_bytes(self._folder / f"{unit}.safetensors", _digest(content) + content, synced=False)

    def get(self, unit: str) -> list[PerturbedBatch] | None:
        """The perturbed inputs of a unit, in the order of its batches; None where they are missing."""
        content = self._whole(unit)
        try:
            if content:
                return _decoded(content, unit)
            return read_adversarials(self._run, unit)
        except DamagedAdversarials:
            return None

    def __contains__(self, unit: str) -> bool:
        return bool(self._whole(unit)) or self.get(unit) is not None

    def _whole(self, unit: str) -> bytes:
        """Perturbed inputs stored for a unit, empty where none are whole."""
        try:
            stored = (self._folder / f"{unit}.safetensors").read_bytes()
        except FileNotFoundError:
            return b""
        content = stored[_DIGEST:]
        return content if _digest(content) == stored[:_DIGEST] else b""

    def remove(self) -> None:
        """Removes what is stored; inputs that the user asked to keep stay."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


DIGEST = "perturbed"  # in the metadata of a unit
_BITS = 128


@dataclass
class PerturbedDigest:
    """Sum of a hash of each example and its perturbed input, modulo 2^128: any order, any cut into units."""

    total: int = 0
    count: int = 0

    def add(self, examples: Sequence[int], x: Tensor) -> None:
        """Inputs after an attack, [n, C, H, W], and which examples they were made from."""
        for example, image in zip(examples, x.cpu().numpy(), strict=True):
            content = np.ascontiguousarray(image).tobytes()
            name = str(example).encode()
            digest = hashlib.blake2b(content, digest_size=_BITS // 8, key=name).digest()
            self.total = (self.total + int.from_bytes(digest, "little")) % (1 << _BITS)
            self.count += 1

    def __str__(self) -> str:
        """For the metadata of a unit."""
        return f"{self.total:032x}"


def sum_of(digests: Iterable[object]) -> str | None:
    """The digest of several units together; None where one has none."""
    total = 0
    for digest in digests:
        try:
            total += int(str(digest), 16)
        except ValueError:
            return None
    return f"{total % (1 << _BITS):032x}"
