"""Which images are evaluated, in which order, and how they become batches: members and slots, fixed
from start to end; and on how many examples each row runs, where rows of one evaluation may run on different
numbers.

Examples are in random order, so that the first of them represent the others. Rows are cut into units at the
ends of the rounds: whatever a row was run on before, more examples add units and change none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from robustbench_coded.data.dataset import Dataset, stratified_rows
from robustbench_coded.evaluation.options.config import LAST_BATCH_RULES, EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, Victim
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.schema.case import Case, Perturbation, ThreatModel, setting_of_claim
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD

STRATIFIED = "stratified"  # how run.json calls a random subset; nothing there means the first, or all


def evaluated(data: Dataset, limit: int | None, *, first: bool, seed: int) -> Dataset:
    """The images that are evaluated, numbered as in ``data``.

    Args:
        data: all images there are.
        limit: how many to take; None takes all.
        first: take the first ``limit`` in their own order, not a random ``limit`` stratified by class in
            random order, of which any first part is a random sample, too.
        seed: names the random choice, which nothing else but the labels decides.

    Raises:
        InputError: ``limit`` is below 1 or above the number of images.
    """
    part = data.first(len(data) if limit is None else limit)
    if first:
        return part
    return data.subset(stratified_rows(data.labels, len(part), stream(seed, -1, "examples")))


def subset_rule(*, first: bool) -> str | None:
    """``STRATIFIED`` where images are taken and ordered at random; None for their own order."""
    return None if first else STRATIFIED


@dataclass(frozen=True)
class Batch:
    """One batch of queries.

    Attributes:
        index: position within the partition; names the batch's random streams.
        members: example of each slot, length k.
        scored: how many of the leading slots are scored; the rest only fill the batch up.
    """

    index: int
    members: tuple[int, ...]
    scored: int

    @property
    def k(self) -> int:
        return len(self.members)


def partition(examples: int, k: int, last_batch: str = "pad") -> list[Batch]:
    """Cuts examples 0 ... examples - 1, in their order, into batches of ``k``.

    Args:
        last_batch: what becomes of a last batch with fewer than k examples: ``pad`` fills it with examples
            from the beginning that are not scored there, ``shrink`` leaves it smaller, ``drop`` out.

    Raises:
        ValueError: on an unknown rule, or when ``drop`` leaves nothing.
    """
    if last_batch not in LAST_BATCH_RULES:
        raise ValueError(f"expected last_batch out of {', '.join(LAST_BATCH_RULES)}, got {last_batch!r}")
    batches = []
    for index, start in enumerate(range(0, examples, k)):
        members = list(range(start, min(start + k, examples)))
        scored = len(members)
        if scored < k and last_batch == "drop":
            break
        if scored < k and last_batch == "pad":
            members += [i % examples for i in range(k - scored)]
        batches.append(Batch(index, tuple(members), scored))
    if not batches:
        raise ValueError(
            f"expected at least one full batch, got {examples} examples for k={k} with last_batch='drop'"
        )
    return batches


def choose_victims(batches: Sequence[Batch], count: int, seed: int) -> list[Victim]:
    """A random sample of ``count`` scored examples as victims, in the order of batch and slot.

    Every slot is equally likely; a victim keeps its own batch and slot.
    """
    places = [Victim(b.index, slot) for b in batches for slot in range(b.scored)]
    order = torch.randperm(len(places), generator=stream(seed, -1, "victims")).tolist()
    chosen = [places[i] for i in order[: min(count, len(places))]]
    return sorted(chosen, key=lambda v: (v.batch, v.slot))


def malicious_slots(batch: Batch, count: int, seed: int) -> list[int]:
    """The slots of ``count`` malicious inputs, every slot equally likely; those of 2 are among those of 4."""
    order = torch.randperm(batch.k, generator=stream(seed, batch.index, "victims"))
    return sorted(order[:count].tolist())


def scored_slots(threat: ThreatModel, batch: Batch, seed: int) -> list[int]:
    """The slots of a batch whose answers count: under collateral damage the unperturbed ones.

    None where a batch is too small for so many malicious inputs and an untouched one.
    """
    if threat.malicious is None:
        return list(range(batch.scored))
    if threat.malicious >= batch.k:
        return []
    malicious = set(malicious_slots(batch, threat.malicious, seed))
    return [slot for slot in range(batch.scored) if slot not in malicious]


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

    subject: ProbedSubject
    budget: Perturbation
    inputs: str

    @property
    def one_victim(self) -> bool:
        """Whether every scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")


def lane_of(case: PlannedCase) -> Lane:
    """The lane of an attack."""
    return Lane(case.subject, case.perturbation, case.threat.inputs)


@dataclass
class Extents:
    """How far each row runs.

    Attributes:
        ends: examples at the end of each round, from `rounds_of`.
        reached: rounds that a row runs in, by row.
        otherwise: rounds of rows that are not named; None for all of them.
    """

    ends: tuple[int, ...]
    reached: dict[PlannedCase, int] = field(default_factory=dict)
    otherwise: int | None = None

    @property
    def first(self) -> int:
        """The first round after which a word may fall."""
        return next((i for i, end in enumerate(self.ends, 1) if end >= FIRST_LOOK), len(self.ends))

    @property
    def looks(self) -> int:
        """How often a word may be asked for along the way."""
        return len(self.ends) - self.first + 1

    def of(self, case: PlannedCase) -> int:
        """The number of rounds that a row runs in."""
        return self.reached.get(case, self.otherwise or len(self.ends))

    def to(self, case: PlannedCase, rounds: int) -> bool:
        """Takes a row to at least so many rounds; False where it had come so far."""
        before = self.reached.get(case, 0)
        self.reached[case] = max(before, rounds)
        return rounds > before

    def parts(self, case: PlannedCase, batches: Sequence[Batch]) -> list[list[Batch]]:
        """The batches of each round that a row runs in, of rounds that have any."""
        starts, last, k = (0, *self.ends), self.ends[-1], case.subject.k
        parts = [
            [batch for batch in batches if starts[i] < min((batch.index + 1) * k, last) <= end]
            for i, end in enumerate(self.ends[: self.of(case)])
        ]
        return [part for part in parts if part]

    def victim_parts(
        self, case: PlannedCase, batches: Sequence[Batch], count: int, seed: int
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
    config: EvalConfig, cases: Sequence[PlannedCase], eps: Sequence[float]
) -> dict[Lane, tuple[Case, ...]]:
    """The settings by which a lane is closed, of every lane that has a verdict.

    An attacker who knows the draw has what the others find: where these settle a lane, nothing is left to
    ask of him, unless a claim is about him.

    Args:
        cases: all that may run. eps: the radii.
    """
    attacks = [case for case in cases if case.attack not in CONTROLS and not case.threat.collateral]
    defended = any(case.subject.spec != STANDARD for case in attacks)
    settings: dict[Lane, dict[Case, None]] = {}
    for case in attacks:
        settings.setdefault(lane_of(case), {})[case.case.setting] = None
    claim = claimed_setting(config, eps)
    judged = {}
    for lane, of_lane in settings.items():
        about = lane.subject.spec != STANDARD or not defended
        claimed = [key for key in of_lane if about and claim == (str(key.threat), key.perturbation.eps)]
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
    cases: Sequence[PlannedCase],
    begun: Mapping[PlannedCase, int],
    ends: Sequence[int],
    cost: Callable[[PlannedCase, int], float],
    seconds: float,
) -> dict[PlannedCase, int]:
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
