"""Perturbed inputs of a unit, stored exactly; only inputs that differ from the clean ones are stored.

A file holds E evaluations (batches as they were scored) and the M inputs that the attack changed in them:

    batch [E]   index of the batch           slot [M]        place of the input in its batch
    victim [E]  slot that is scored, -1 all  evaluation [M]  which evaluation it belongs to
    known [E]   draw the attacker knew, -1   x [M, C, H, W]  float32 in [0, 1]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

EVERY = -1  # victim: the whole batch is scored; known: no draw was known
NAMES = ("batch", "victim", "known", "evaluation", "slot", "x")
MAX_FILE_BYTES = 16 << 30


class DamagedAdversarials(Exception):
    """An adversarials file that can't be read, or whose parts are inconsistent."""


@dataclass(frozen=True)
class Evaluation:
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

    evaluations: list[Evaluation] = field(default_factory=list)

    def add(
        self, batches: Sequence[int], victims: Sequence[int], known: int | None, clean: Tensor, x: Tensor
    ) -> None:
        """G batches after an attack: clean and perturbed inputs [G, K, C, H, W]."""
        clean, x = clean.cpu(), x.cpu()
        changed = (clean != x).flatten(2).any(-1)
        for g, (batch, victim) in enumerate(zip(batches, victims, strict=True)):
            slots = changed[g].nonzero().squeeze(1)
            draw = EVERY if known is None else known
            self.evaluations.append(Evaluation(batch, victim, draw, slots, x[g, slots].clone()))

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
    """The content of a file, the same for the same inputs; None if no inputs were kept."""
    return save(tensors) if tensors else None


def read_adversarials(path: Path) -> list[Evaluation]:
    """The evaluations of a unit.

    Raises:
        DamagedAdversarials: the file is missing, truncated or altered.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DamagedAdversarials(f"{path.name} is larger than an adversarials file can be")
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedAdversarials(f"{path.name} can't be read ({type(error).__name__})") from error
    return _evaluations(tensors, path.name)


def decoded(content: bytes, name: str) -> list[Evaluation]:
    """The evaluations in the content of a file, called ``name`` where it is damaged.

    Raises:
        DamagedAdversarials: it is truncated or altered.
    """
    try:
        return _evaluations(load(content), name)
    except (SafetensorError, ValueError) as error:
        raise DamagedAdversarials(f"{name} can't be read ({type(error).__name__})") from error


def _evaluations(tensors: dict[str, Tensor], name: str) -> list[Evaluation]:
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
    return [Evaluation(*parts) for parts in zip(*facts, *inputs_of, strict=True)]
