"""Comparisons, which are judged together, and their sample sizes.

Examples are in random order, so that the first of them represent the others. A case runs on the first so many
of them, in one of a few sizes that the plan fixes: whatever it ran on before, more examples add units and
change none. Nothing here needs torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from msgspec import structs

from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation
from robustbench_coded.schema.words import CONTROLS, STANDARD

# The first sample size on which a verdict may fall: none right of so many leaves less than 3%, in random
# batches of them, too.
FIRST_LOOK = 256
# Images through the network for one answer from which on the first look has a single batch.
SLOW = 8


class Comparison(NamedTuple):
    """Cases that are judged together, whether the draw is known or not.

    An attacker who knows the draw also has the perturbations of one who does not: their cases need the same
    examples.
    """

    subject: ProbedSubject
    perturbation: Perturbation
    inputs: str

    @property
    def one_victim(self) -> bool:
        """True if every scored example is the victim of a batch of its own."""
        return self.inputs in ("victim", "co-batch")

    def holds(self, case: PlannedCase) -> bool:
        """True if a case belongs here, at any radius, or is a control of the subject."""
        control = case.attack in CONTROLS and not self.one_victim and not case.threat.one_victim
        return case.subject == self.subject and (control or case.threat.inputs == self.inputs)


def comparison_of(case: PlannedCase) -> Comparison:
    """The comparison that an attack belongs to."""
    return Comparison(case.subject, case.perturbation, case.threat.inputs)


def comparisons_judged(
    cases: Sequence[PlannedCase],
    claimed: tuple[str, float | None] | None = None,
    *,
    standard: bool = False,
) -> dict[Comparison, tuple[Case, ...]]:
    """The settings by which a comparison is settled, of every comparison that has a verdict.

    An attacker who knows the draw has what the others find: where these settle a comparison, nothing is left
    to ask of him, unless a claim is about him.

    Args:
        cases: all that may run.
        claimed: the threat model and radius that a claim is about.
        standard: whether standard inference is named as a defence, which the claim is about, too.
    """
    attacks = [case for case in cases if case.attack not in CONTROLS]
    defended = any(case.subject.spec != STANDARD for case in attacks) and not standard
    settings: dict[Comparison, dict[Case, None]] = {}
    for case in attacks:
        settings.setdefault(comparison_of(case), {})[case.case.setting] = None
    judged = {}
    for comparison, own in settings.items():
        about = comparison.subject.spec != STANDARD or not defended
        also = [key for key in own if about and claimed == (str(key.threat), key.perturbation.eps)]
        weakest = [key for key in own if not key.threat.draw_known] or list(own)
        judged[comparison] = tuple(dict.fromkeys([*weakest, *also]))
    return judged


def sample_sizes(examples: int, batch: int, first: int = FIRST_LOOK) -> tuple[int, ...]:
    """The numbers of examples that a verdict may rest on: those of the first look, twice as many each time,
    then all.

    The last one at least doubles, too: 256, 640 for 640 examples in batches of 128.

    Args:
        examples: all that may be evaluated.
        batch: the largest batch; the numbers are multiples of it, but for the last one.
        first: the fewest at the first look.
    """
    sizes, size = [], batch
    while size < first:
        size *= 2
    while 2 * size <= examples:
        sizes.append(size)
        size *= 2
    return (*sizes, examples)


def looks(sizes: Sequence[int], size: int) -> int:
    """Divisor of an interval's error if a verdict is decided on ``size`` examples.

    The first look, which settles most verdicts, has half of the error; the later ones share the rest.
    """
    later = len(sizes) - 1
    return 1 if not later else 2 if size == sizes[0] else 2 * later


def on_whole_batches(case: PlannedCase) -> PlannedCase:
    """The same attack on all inputs of a batch: its inputs serve as victims of other batches, too."""
    return replace(case, case=structs.replace(case.case, threat=WHOLE_BATCH))


def depends_on_batch(case: PlannedCase) -> bool:
    """True if an input's perturbation depends on the inputs that it was attacked together with."""
    if (attack := case.made_by) is None:
        return False
    if case.submission is not None:
        sources = case.submission.sources
        # The worst of several is chosen for a batch.
        return len(sources) > 1 or (sources[0].subject.batch_dependent and depends_on_batch(sources[0]))
    return attack.knows != "transfer" or attack.init is not None


def random_batch_images(case: PlannedCase) -> int:
    """The cost of scoring one random batch, in image gradients: a forward is a third of one."""
    return max(1, case.subject.images // 3)
