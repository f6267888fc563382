"""Where an evaluation looked along the way, where each verdict fell, and what further commands would do."""

from msgspec import Struct

from robustbench_coded.schema.numbers import Count, Number


class Stop(Struct, frozen=True, kw_only=True):
    """A subject under one threat model and budget whose word nothing can change any more.

    Attributes:
        word: the verdict; examples, batches: on how many it fell.
        attack: the attack that leaves least.
        planned: examples that may be attacked.
        images: image gradients that its attacks cost until then; images_planned: that all would cost.
        seconds: forecast of what ran until then.
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
    attack: str = ""
    examples: int = 0
    planned: int = 0
    batches: int = 0
    images: int = 0
    images_planned: int = 0
    attacks: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()


class Sequential(Struct, frozen=True, kw_only=True):
    """How an evaluation chose the number of examples of each row.

    Everything that a machine's speed decided follows from ``rates`` and the two limits: the same folder is
    completed in the same way on any machine.

    Attributes:
        until: ``settled`` or ``claim`` where nothing else was asked for.
        rounds: numbers of examples that a row could run on.
        questions: of runs of earlier versions.
        verdict_seconds, table_seconds: forecast time for attacks on open verdicts, and for these and the
            table; None for no limit.
        rates: seconds for one image, by what is forwarded or differentiated.
    """

    until: str = ""
    rounds: tuple[int, ...] = ()
    questions: Count = 1
    verdict_seconds: Number | None = None
    table_seconds: Number | None = None
    rates: dict[str, Number] = {}
    stops: tuple[Stop, ...] = ()


class Outlook(Struct, frozen=True, kw_only=True):
    """What a further command would do.

    Attributes:
        purpose: ``all``, to run every row on every example, or ``settle``, to settle open verdicts.
        option: what to add to the command.
        seconds: how long that takes, about.
    """

    purpose: str = ""
    option: str = ""
    seconds: Number = 0.0
