"""Where an evaluation with ``--until`` looked, and where each subject stopped."""

from msgspec import Struct

from robustbench_coded.schema.numbers import Count


class Stop(Struct, frozen=True, kw_only=True):
    """A subject under one threat model and budget whose word nothing can change any more.

    Attributes:
        word: the verdict; examples, batches: on how many it fell.
        planned: examples that were to be attacked.
        images, images_planned: image gradients that its attacks cost until then, and that all would have.
        attacks: those that ran until then; spared: those that did not run at all.
    """

    checkpoint: str = ""
    defence: str = ""
    k: int | None = None
    n: int | None = None
    threat: str = ""
    norm: str = ""
    eps: float = 0.0
    eps_space: str = ""
    word: str = ""
    examples: int = 0
    planned: int = 0
    batches: int = 0
    images: int = 0
    images_planned: int = 0
    attacks: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()


class Sequential(Struct, frozen=True, kw_only=True):
    """How an evaluation with ``--until`` looked along the way.

    Attributes:
        until: ``settled`` or ``claim``.
        rounds: examples at the end of each round.
        questions: subjects under one threat model and budget, between which the error is divided.
    """

    until: str = ""
    rounds: tuple[int, ...] = ()
    questions: Count = 1
    stops: tuple[Stop, ...] = ()
