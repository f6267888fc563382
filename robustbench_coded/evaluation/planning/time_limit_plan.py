"""Which attacks, and on how many examples, fit into a time limit (``eval --time 30m``).

choose(...)      before anything runs: the examples, the rows that run first, and those that wait
next_rows(...)   of those that wait, while there is time: on what is still open, most damage first

Where not everything fits, the fewest examples that say anything are evaluated. The paper's attacks and one
strong attack on each subject come first. The rest of the time goes to subjects whose word is open.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from attacks.naming import parse
from attacks.presets import PRESETS
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.rounds import Lane, lane_of
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CONTROLS

# Fewer batches than these give no interval that knows about batches: then a limit is exceeded instead.
FEWEST_BATCHES = 4
# What a sentence about a time limit begins with, in the notes of a run.
OPENING = "To keep within "

MANY_DRAWS = ("eotauto", "gmsaavg", "gmsamin", "bpda")

Cost = Callable[[AttackCase, int], float]


@dataclass(frozen=True)
class Choice:
    """What fits.

    Attributes:
        examples: how many are evaluated.
        rows: those that run first, in the order in which they were asked for.
        waiting: the others.
        seconds: forecast of the rows on these examples.
        fits: whether that is within the limit.
    """

    examples: int
    rows: tuple[AttackCase, ...]
    waiting: tuple[AttackCase, ...]
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
    smallest number of examples: without them there is no figure at all, or nothing to compare one with. The
    paper's attacks follow, the cheapest first.

    Args:
        rows: all that was asked for.
        cost: seconds that a row takes on that many examples.
        sizes: numbers of examples to choose from, rising.
        kept: keys of rows that are run in any case, because they were begun.
    """
    least = sizes[0]

    def total(chosen: Iterable[AttackCase], examples: int) -> float:
        return sum(cost(row, examples) for row in chosen)

    if total(rows, least) <= seconds:
        examples = sizes[bisect_right(sizes, seconds, key=lambda size: total(rows, size)) - 1]
        return Choice(examples, tuple(rows), (), total(rows, examples), fits=True)
    attacks = [row for row in rows if row.attack not in CONTROLS]
    strong: dict[Subject, AttackCase] = {}
    for row in sorted(attacks, key=_rank):
        strong.setdefault(row.subject, row)  # of equals the first: the others may wait for what it leaves
    chosen = {row for row in rows if row.attack in CONTROLS or row.key in kept} | set(strong.values())
    spent = total(chosen, least)
    fits = spent <= seconds
    papers = [row for row in attacks if row.attack in PRESETS["paper"] and row not in chosen]
    for row in sorted(papers, key=lambda row: cost(row, least)):
        needed = cost(row, least)
        if spent + needed <= seconds:
            chosen.add(row)
            spent += needed
    return Choice(
        examples=least,
        rows=tuple(row for row in rows if row in chosen),
        waiting=tuple(row for row in rows if row not in chosen),
        seconds=spent,
        fits=fits,
    )


def next_rows(
    waiting: Sequence[AttackCase],
    settled: Collection[CaseKey],
    worth: Callable[[AttackCase], float],
    cost: Callable[[AttackCase], float],
    seconds: float,
) -> list[AttackCase]:
    """Those that run next: one of each subject and threat model that is open, as long as they fit.

    The paper's attacks go before others. No more than one at a time: it may settle the word.

    Args:
        settled: settings whose words no stronger attack can change.
        worth: damage per image that a row is expected to do.
        cost: seconds that it takes.
        seconds: that are left.
    """
    open_ones = [row for row in waiting if not is_settled(row, settled)]
    found: dict[Lane, AttackCase] = {}
    for row in sorted(open_ones, key=lambda row: (row.attack not in PRESETS["paper"], -worth(row))):
        if lane_of(row) not in found and cost(row) <= seconds:
            found[lane_of(row)] = row
            seconds -= cost(row)
    return list(found.values())


def is_settled(row: AttackCase, settled: Collection[CaseKey]) -> bool:
    """Whether no stronger attack can change the word that a row counts for.

    An attacker who knows the draw has the perturbations of one who does not.
    """
    setting = row.key.setting
    return setting in settled or setting.under(setting.threat.with_draw("unknown")) in settled


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


def sentences(choice: Choice, seconds: float, asked: int) -> list[str]:
    """What the report says of a choice: examples, a limit that is exceeded all the same.

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
    return told


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


def settled_already(rows: Sequence[AttackCase], seconds: float) -> list[str]:
    """A sentence for each subject on which these rows were not run because its word was settled."""
    by_subject: dict[str, dict[str, None]] = {}
    for row in rows:
        by_subject.setdefault(_subject(row), {})[f"{row.attack} ({row.threat})"] = None
    return [
        f"{OPENING}{time_text(seconds)}, nothing more was run on {subject}, whose verdict was settled: "
        f"{', '.join(attacks)} left out."
        for subject, attacks in by_subject.items()
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
