"""Which attacks, and on how many examples, fit into the time that somebody has (``eval --time 30m``).

First every row on the fewest examples that say anything, the most damning attacks first; what then is left of
the time goes into more examples.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CONTROLS

# Fewer batches than these give no interval that knows about batches: then a limit is exceeded instead.
FEWEST_BATCHES = 4
# What a sentence about a time limit begins with, in the notes of a run.
OPENING = "To keep within --time "

MANY_DRAWS = ("eotauto", "gmsaavg", "gmsamin", "bpda")

Cost = Callable[[AttackCase, int], float]


@dataclass(frozen=True)
class Choice:
    """What fits.

    Attributes:
        examples: how many are evaluated.
        rows: in the order in which they were asked for.
        left_out: the others.
        seconds: forecast of the rows on these examples.
        fits: whether that is within the limit.
    """

    examples: int
    rows: tuple[AttackCase, ...]
    left_out: tuple[AttackCase, ...]
    seconds: float
    fits: bool


def choose(
    rows: Sequence[AttackCase],
    cost: Cost,
    seconds: float,
    sizes: Sequence[int],
    kept: Collection[CaseKey] = (),
) -> Choice:
    """The rows and the number of examples that fit into ``seconds``, by their forecast.

    Clean inputs, random signs and the most damning attack on each subject are run whatever they cost, on the
    smallest number of examples: without them there is no figure at all, or nothing to compare one with.

    Args:
        rows: all that was asked for.
        cost: seconds that a row takes on that many examples.
        sizes: numbers of examples to choose from, rising.
        kept: keys of rows that are run in any case, because they were begun.
    """
    least = sizes[0]
    ordered = sorted(rows, key=_rank)
    first = {row.subject: row for row in reversed(ordered) if row.attack not in CONTROLS}
    chosen = [r for r in ordered if r.attack in CONTROLS or first[r.subject] == r or r.key in kept]
    spent = sum(cost(row, least) for row in chosen)
    for row in ordered:
        needed = cost(row, least)
        if row not in chosen and spent + needed <= seconds:
            chosen.append(row)
            spent += needed
    fitting = bisect_right(sizes, seconds, key=lambda size: sum(cost(row, size) for row in chosen))
    examples = sizes[max(fitting - 1, 0)]
    needed = sum(cost(row, examples) for row in chosen)
    return Choice(
        examples=examples,
        rows=tuple(row for row in rows if row in chosen),
        left_out=tuple(row for row in rows if row not in chosen),
        seconds=needed,
        fits=needed <= seconds,
    )


def sizes_within(asked: int, batch: int) -> list[int]:
    """Numbers of examples to choose from: whole batches, at least ``FEWEST_BATCHES``, then all asked for."""
    return [*range(min(FEWEST_BATCHES * batch, asked), asked, batch), asked]


def _rank(row: AttackCase) -> tuple[int, bool]:
    """The most damning first: transfer, known draws, averages of draws, then the rest and FGSM.

    Attacks on a single victim, of which each needs a batch of its own, come behind those on batches.
    """
    if row.attack in CONTROLS:
        return 0, False
    name = parse(row.attack)
    if name.estimator == "transfer":
        rank = 1
    elif name.estimator == "aware":
        rank = 2
    elif name.draws > 1 or name.estimator in MANY_DRAWS:
        rank = 3
    else:
        rank = 5 if name.algorithm == "fgsm" else 4
    return rank, row.threat.inputs != "batch"


def sentences(choice: Choice, cost: Cost, seconds: float, asked: int) -> list[str]:
    """What the report says of a choice: examples, attacks left out, a limit that is exceeded all the same.

    Args:
        seconds: the limit as given.
        asked: examples without it.
    """
    limit = f"{OPENING}{time_text(seconds)}, "
    told = []
    if choice.examples < asked:
        told.append(f"{limit}only {choice.examples:,} of {asked:,} examples were evaluated.")
    if not choice.fits:
        told.append(
            f"{limit}no more could be left out, though it may not suffice: one attack on each defence and "
            f"{FEWEST_BATCHES} batches are always run, about {time_text(choice.seconds)}."
        )
    return told + left_out(choice.left_out, lambda row: cost(row, choice.examples), seconds)


def left_out(rows: Sequence[AttackCase], cost: Callable[[AttackCase], float], seconds: float) -> list[str]:
    """A sentence for each attack and threat model of these rows, with what running them would take."""
    by_attack: dict[tuple[str, str], list[AttackCase]] = {}
    for row in rows:
        by_attack.setdefault((row.attack, str(row.threat)), []).append(row)
    return [
        f"{OPENING}{time_text(seconds)}, {attack} ({threat}) was left out on "
        f"{', '.join(dict.fromkeys(map(_subject, found)))}: about {time_text(sum(map(cost, found)))}."
        for (attack, threat), found in by_attack.items()
    ]


def _subject(row: AttackCase) -> str:
    s = row.subject
    sizes = "" if s.shown_k is None else f" K={s.k}" + (f" N={s.n}" if s.n else "")
    return f"{s.checkpoint} behind {s.label}{sizes}"


def time_text(seconds: float) -> str:
    """``45s``, ``30m`` or ``1.5h``, as ``--time`` takes it."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}".removesuffix(".0") + unit
    return f"{max(seconds, 1):.0f}s"
