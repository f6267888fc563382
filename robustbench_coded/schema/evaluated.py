"""What a run was made on: its data, checkpoints and defences, as they were found."""

from typing import Any

from msgspec import Struct

from robustbench_coded.schema.case import SubjectKey


class Identity(Struct, frozen=True, kw_only=True):
    """What may not change within a run folder.

    Attributes:
        subset: ``stratified`` where ``limit`` examples were drawn at random in each class; None where they
            are the first ones, or all.
    """

    data: str | None = None
    data_sha256: str | None = None
    limit: int | None = None
    subset: str | None = None
    seed: int | None = None
    last_batch: str | None = None


class DataFacts(Struct, frozen=True, kw_only=True):
    """The data evaluated: ``examples`` of the ``available`` ones; the shape of an image is [C, H, W]."""

    name: str | None = None
    source: str | None = None
    sha256: str | None = None
    examples: int | None = None
    available: int | None = None
    classes: int | None = None
    image_shape: tuple[int, ...] | None = None


class CheckpointFacts(Struct, frozen=True, kw_only=True):
    """A checkpoint: what it is, and how what its file does not say was settled."""

    name: str
    sha256: str
    path: str | None = None
    arch: str | None = None
    classes: int | None = None
    channels: int | None = None
    metadata: dict[str, Any] = {}
    normalisation: dict[str, Any] = {}
    recognition: dict[str, Any] = {}
    gradients: dict[str, Any] = {}


class ProbeRecord(Struct, frozen=True, kw_only=True):
    """What the probe of one subject measured before it was attacked.

    Attributes:
        relaxed_gradients: like ``gradients``, with the operators that hide the gradient smoothed.
        hidden_by: those operators: ``operator``, ``calls``, ``cut`` (a share) and ``scale`` of each.
        selftests: the id of its self-tests, the name of their file; None where none were made.
    """

    checkpoint: str = ""
    defence: str = ""
    k: int | None = None
    n: int | None = None
    figures: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    relaxed_gradients: dict[str, Any] = {}
    hidden_by: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    selftests: str | None = None

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)


class MatchedBaseline(Struct, frozen=True, kw_only=True):
    """A baseline whose setting was chosen to lose as much clean accuracy as the defence ``target``."""

    checkpoint: str = ""
    spec: str = ""
    option: str = ""
    setting: float | None = None
    accuracy: float | None = None
    target: str = ""
    target_accuracy: float | None = None
    examples: int | None = None
    defence: str = ""
