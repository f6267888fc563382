"""Perturbed inputs of a run while it runs, so that later stages of the evaluation can submit them elsewhere.

    store = PerturbationStore(run_folder)
    store.put(unit_id, tensors)     as `runs.adversarials.Adversarials.tensors` gives them: exact
    store.get(unit_id)              [Evaluation, ...], None where nothing whole is stored
    store.remove()                  at the end of the run

What is stored: units of attacks on whole batches whose draw is made afterwards, of the first replicate. An
`Evaluation` is one batch: its index in the partition of the attacked subject, the slots that were changed,
and x [m, C, H, W] in float32. Which examples these are, ``WorkerContext.batches(subject, 0)`` says.

A file per unit in ``perturbed/``: a digest of 16 bytes, then the content of an adversarials file. It is not
synced to the disk: what a crash leaves behind does not match its digest, counts as missing and is made again,
from the same streams of random numbers (`session.perturbations.with_perturbations`). With
``--save-adversarials`` the run keeps the same inputs in ``adversarials/``, and these are read.
"""

import hashlib
import shutil
from pathlib import Path

from torch import Tensor

from robustbench_coded.runs.adversarials import DamagedAdversarials, Evaluation, encoded, read_adversarials
from robustbench_coded.runs.adversarials import decoded as evaluations_of
from robustbench_coded.runs.atomic import replace_bytes

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
        self._kept = path / "adversarials"
        self._left = most - sum(file.stat().st_size for file in self._folder.glob("*"))

    def put(self, unit: str, tensors: dict[str, Tensor], *, whatever_the_size: bool = False) -> None:
        """Stores the perturbed inputs of a unit, as long as there is room."""
        content = encoded(tensors)
        if content is None or (len(content) > self._left and not whatever_the_size):
            return
        self._left -= len(content)
        replace_bytes(self._folder / f"{unit}.safetensors", _digest(content) + content)

    def get(self, unit: str) -> list[Evaluation] | None:
        """The perturbed inputs of a unit, in the order of its batches; None where they are missing."""
        content = self._whole(unit)
        try:
            if content:
                return evaluations_of(content, unit)
            return read_adversarials(self._kept / f"{unit}.safetensors")
        except DamagedAdversarials:
            return None

    def __contains__(self, unit: str) -> bool:
        return bool(self._whole(unit)) or self.get(unit) is not None

    def _whole(self, unit: str) -> bytes:
        """What is stored of a unit, empty where nothing whole is."""
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
