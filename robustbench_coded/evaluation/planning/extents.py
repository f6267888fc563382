"""On how many examples each row runs, where rows of one evaluation may run on different numbers.

Examples are in random order, so that the first of them represent the others. Rows are cut into units at the
ends of the rounds: whatever a row was run on before, more examples add units and change none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import Batch, Victim, choose_victims
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.schema.case import BudgetKey, CaseKey, setting_of_claim
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD

# The first number of examples on which a word may fall: none right of so many leaves less than 3%, in random
# batches of them, too.
FIRST_LOOK = 256
# Victims attacked at first: each has a batch of its own, and costs as much. Where their attack has perturbed
# whole batches, too, random batches with one victim settle the word.
FIRST_VICTIMS = 4


def rounds_of(examples: int, batch: int) -> tuple[int, ...]:
    """The numbers of examples that a row may run on: a batch, twice as many each time, then all.

    The last one at least doubles, too: 128, 256, 640 for 640 examples in batches of 128.

    Args:
        examples: all that may be evaluated.
        batch: the largest batch; the numbers are multiples of it, but for the last one.
    """
    ends, end = [], batch
    while 2 * end <= examples:
        ends.append(end)
        end *= 2
    return (*ends, examples)


class Lane(NamedTuple):
    """Rows that are judged together, whether the draw is known or not.

    An attacker who knows the draw also has the perturbations of one who does not: their rows need the same
    examples.
    """

    subject: Subject
    budget: BudgetKey
    inputs: str

    @property
    def one_victim(self) -> bool:
        """Whether every scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")


def lane_of(case: AttackCase) -> Lane:
    """The lane of an attack."""
    return Lane(case.subject, case.budget, case.threat.inputs)


@dataclass
class Extents:
    """How far each row runs.

    Attributes:
        ends: examples at the end of each round, from `rounds_of`.
        reached: rounds that a row runs in, by row.
        otherwise: rounds of rows that are not named; None for all of them.
    """

    ends: tuple[int, ...]
    reached: dict[AttackCase, int] = field(default_factory=dict)
    otherwise: int | None = None

    @property
    def first(self) -> int:
        """The first round after which a word may fall."""
        return next((i for i, end in enumerate(self.ends, 1) if end >= FIRST_LOOK), len(self.ends))

    @property
    def looks(self) -> int:
        """How often a word may be asked for along the way."""
        return len(self.ends) - self.first + 1

    def of(self, case: AttackCase) -> int:
        """The number of rounds that a row runs in."""
        return self.reached.get(case, self.otherwise or len(self.ends))

    def to(self, case: AttackCase, rounds: int) -> bool:
        """Takes a row to at least so many rounds; False where it had come so far."""
        before = self.reached.get(case, 0)
        self.reached[case] = max(before, rounds)
        return rounds > before

    def parts(self, case: AttackCase, batches: Sequence[Batch]) -> list[list[Batch]]:
        """The batches of each round that a row runs in, of rounds that have any."""
        starts, last, k = (0, *self.ends), self.ends[-1], case.subject.k
        parts = [
            [batch for batch in batches if starts[i] < min((batch.index + 1) * k, last) <= end]
            for i, end in enumerate(self.ends[: self.of(case)])
        ]
        return [part for part in parts if part]

    def victim_parts(
        self, case: AttackCase, batches: Sequence[Batch], count: int, seed: int
    ) -> list[list[Victim]]:
        """The same for victims: a few among the examples of the first look, beyond it ``count`` of all."""
        last, k = self.ends[-1], case.subject.k
        end = self.ends[self.first - 1]
        looked_at = [batch for batch in batches if min((batch.index + 1) * k, last) <= end]
        first = choose_victims(looked_at, min(FIRST_VICTIMS, count), seed)
        further = [victim for victim in choose_victims(batches, count, seed) if victim not in first]
        further = further[: count - len(first)]
        return [first, further] if further and self.of(case) > self.first else [first]


def lanes_judged(
    config: EvalConfig, cases: Sequence[AttackCase], eps: Sequence[float]
) -> dict[Lane, tuple[CaseKey, ...]]:
    """The settings by which a lane is closed, of every lane that has a verdict.

    An attacker who knows the draw has what the others find: where these settle a lane, nothing is left to
    ask of him, unless a claim is about him.

    Args:
        cases: all that may run. eps: the radii.
    """
    attacks = [case for case in cases if case.attack not in CONTROLS and not case.threat.collateral]
    defended = any(case.subject.spec != STANDARD for case in attacks)
    settings: dict[Lane, dict[CaseKey, None]] = {}
    for case in attacks:
        settings.setdefault(lane_of(case), {})[case.key.setting] = None
    claim = claimed_setting(config, eps)
    judged = {}
    for lane, of_lane in settings.items():
        about = lane.subject.spec != STANDARD or not defended
        claimed = [key for key in of_lane if about and claim == (str(key.threat), key.eps)]
        weakest = [key for key in of_lane if not key.threat.draw_known] or list(of_lane)
        asked = claimed if config.until == "claim" else list(dict.fromkeys([*weakest, *claimed]))
        if asked:
            judged[lane] = tuple(asked)
    return judged


def claimed_setting(config: EvalConfig, eps: Sequence[float]) -> tuple[str, float | None] | None:
    """The threat model and radius that a claim is about; None without a claim."""
    if config.claim is None:
        return None
    return setting_of_claim(config.claim_threat, config.claim_eps, config.inputs, eps)


def fill(
    cases: Sequence[AttackCase],
    begun: Mapping[AttackCase, int],
    ends: Sequence[int],
    cost: Callable[[AttackCase, int], float],
    seconds: float,
) -> dict[AttackCase, int]:
    """How many rounds each row of a table runs in, so that all of them take about ``seconds``.

    Every row runs on one batch, whatever that costs. Then the row that would be the cheapest with twice its
    examples gets them, until none fits: rows come to share the time evenly. No row goes further than the
    clean inputs of its subject, which are what it is compared with.

    Args:
        cases: the rows of the table, clean ones among them.
        begun: rounds that rows have run in already.
        cost: seconds that a row takes in so many rounds.
    """
    chosen = {case: max(begun.get(case, 0), 1) for case in cases}
    clean = {case.subject: case for case in cases if case.attack == CLEAN}
    for case, rounds in list(chosen.items()):
        own = clean.get(case.subject)
        if own is not None:
            chosen[own] = max(chosen[own], rounds)
    left = seconds - sum(cost(case, n) - cost(case, begun.get(case, 0)) for case, n in chosen.items())
    open_ones = {case for case, rounds in chosen.items() if rounds < len(ends)}
    while open_ones:
        case = min(open_ones, key=lambda one: (cost(one, chosen[one] + 1), cases.index(one)))
        further = {case: chosen[case] + 1}
        own = clean.get(case.subject)
        if own is not None and chosen[own] < further[case]:
            further[own] = further[case]
        needed = sum(cost(one, rounds) - cost(one, chosen[one]) for one, rounds in further.items())
        if needed > left:
            open_ones.discard(case)
            continue
        left -= needed
        chosen |= further
        open_ones = {one for one in open_ones if chosen[one] < len(ends)}
    return chosen
