"""A verdict on a defence under one threat model: its figures (`rules` decides it)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.intervals import TAIL, Interval, clopper_pearson
from robustbench_coded.judge.paired import Difference
from robustbench_coded.schema.case import Claim
from robustbench_coded.schema.words import Rung, VerdictName

# Names of rules.
CONTAINS_THRESHOLD = "interval contains the threshold"
OTHER_ATTACKS = "other attacks on the base model"


class Needs(NamedTuple):
    """Rungs that may still change a verdict, or must have been climbed before it is believed.

    Attributes:
        rungs: of the protocol, which asks them in its own order; none where nothing can change it.
        base_alone: True if only what its base model loses can change it.
    """

    rungs: tuple[Rung, ...] = ()
    base_alone: bool = False


NOTHING = Needs()


@dataclass(frozen=True)
class Verdict:
    """A verdict, the rule that gave it, and the figures that the rule read (fractions).

    Attributes:
        name: the verdict.
        reason: the rule's name and its sentence, with the next step of an open verdict.
        accuracy: under the ensemble of all complete attacks; None without any.
        unknown_draw: for a known draw, the same threat model with an unknown draw, whose upper limits the
            figures take if it was attacked; otherwise ''.
        bar: threshold of the gain, or of the accuracy without a base model.
        compared: whether the gain decides, because the defence names a base model.
        broken_at: the accuracy up to which it is broken.
        base: accuracy of its checkpoint alone under its ensemble, on all of its images, also where the
            defence names no base model; None where that was not evaluated.
        gain: accuracy minus that of the base model under its ensemble, paired; None without a base.
        clean: accuracy on unperturbed inputs, of the same examples and draws.
        claim: the claim under this threat model and perturbation.
        claimed: measured accuracy of the claimed kind under the ensemble; None if outcomes are missing.
        refuted_by: the attack that refutes the claim and the accuracy under the attack that the claim names,
            as a clause; '' if the claim stands.
        beside: accuracy minus that of the checkpoint under its ensemble, paired, if the defence names no base
            model. No verdict depends on it, because the defence may not use the checkpoint.
        rule: its name; brief: the rule in plain words; needs: the rungs that may still change the verdict, or
            must have run.
        checks: those of the threat model and the self-tests.
        constant: whether predictions on clean inputs are no more accurate than a constant prediction.
        missing: whether outcomes of an attack are missing, on the defence or on its base model.
        stopped: True if the run was stopped before every rung of the protocol had run.
        faulty: invalid results of attacks on either.
        unmatched_attacks: the attacks that ran only on one side, as a clause; '' without any that matter.
        missing_on_base, missing_here: the attacks that the base model and the defence still need.
        breaks: published breaks of the defence, as their sources.
    """

    name: VerdictName
    reason: str
    accuracy: Interval | None
    bar: float
    compared: bool = False
    broken_at: float = 0.0
    base: Interval | None = None
    gain: Difference | None = None
    clean: Interval | None = None
    claim: Claim | None = None
    claimed: Interval | None = None
    refuted_by: str = ""
    beside: Difference | None = None
    rule: str = ""
    brief: str = ""
    needs: Needs = NOTHING
    checks: tuple[Check, ...] = ()
    constant: bool = False
    missing: bool = False
    stopped: bool = False
    faulty: int = 0
    unmatched_attacks: str = ""
    missing_on_base: tuple[str, ...] = ()
    missing_here: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    unknown_draw: str = ""

    @property
    def examples(self) -> int:
        """The images, or victims, that the accuracy was measured on."""
        return 0 if self.accuracy is None else self.accuracy.images

    @property
    def meaning(self) -> str:
        """``at chance level: at most 14.3%``: what `broken` says."""
        return f"at chance level: at most {self.broken_at:.1%}"

    @property
    def name_with_meaning(self) -> str:
        """The name, of `broken` with what it says."""
        return f"{self.name} ({self.meaning})" if self.name == VerdictName.BROKEN else str(self.name)

    @property
    def open_checks(self) -> tuple[str, ...]:
        """Names of the checks that did not pass."""
        return tuple(check.name for check in self.checks if not check.passed)

    @property
    def examples_to_settle(self) -> int | None:
        """Images on which the interval that contains the bar is expected to leave it, if its estimate stays
        and it shortens with their square root; None within 0.25 points of the bar or unmeasured.
        """
        figure: Interval | Difference | None = self.accuracy
        bar = self.broken_at
        if self.compared and self.gain is not None and self.gain.low <= self.bar:
            figure, bar = self.gain, self.bar
        elif self.accuracy is not None and self.accuracy.high <= bar:
            figure = self.clean
        if figure is None or figure.kind is None or abs(figure.estimate - bar) < 0.0025:
            return None
        reach = figure.estimate - figure.low if figure.estimate > bar else figure.high - figure.estimate
        return max(self.examples + 1, math.ceil(self.examples * (reach / (figure.estimate - bar)) ** 2))

    @property
    def refuted_for(self) -> str:
        """The images for which a claim is refuted, as a clause; '' if it stands."""
        claim, accuracy = self.claim, self.claimed
        if claim is None or accuracy is None or accuracy.high >= claim.value:
            return ""
        return accuracy.kind.phrase if accuracy.kind else f"with {self.unknown_draw}"

    @property
    def tells(self) -> bool:
        """True if the images can show that it is broken."""
        if self.clean is None:
            return True
        return self.broken_at < (self.clean.low if self.clean.kind else self.clean.estimate)

    @property
    def keeps_less_than_margin(self) -> bool:
        """True if so little is left that the gain is below the minimum, whatever the base model keeps."""
        return self.compared and self.accuracy is not None and self.accuracy.high < self.bar

    @property
    def above_the_bar(self) -> bool:
        """True if the figures leave room for a positive verdict, so that it depends on checks alone."""
        if self.accuracy is None or self.accuracy.lower_as_attacked:
            return False
        if min(self.accuracy.low, self.accuracy.as_attacked) <= self.broken_at:
            return False
        if not self.compared:
            return True
        # Nothing gains more than it keeps, whatever the two intervals say.
        gains = self.gain is not None and min(self.gain.low, self.gain.as_attacked) > self.bar
        return gains and not self.keeps_less_than_margin

    @property
    def could_lose(self) -> bool:
        """True if its base model certainly keeps more than nothing right of as many images may leave."""
        base = 0.0 if self.base is None else self.base.low
        return base > clopper_pearson(0, max(self.examples, 1), TAIL)[1]

    @property
    def few_classes(self) -> bool:
        """True if a constant prediction is as accurate as the clean ones."""
        return bool(
            self.clean and self.accuracy and max(self.clean.estimate, self.accuracy.low) <= self.broken_at
        )

    @property
    def bars(self) -> tuple[float, ...]:
        """Thresholds of its accuracy, the lowest first: below it, no further attack changes the verdict."""
        if self.claim is not None:
            return (self.claim.value,)
        if not self.compared:
            return (self.broken_at,)
        lowest = self.broken_at if self.tells else self.bar
        gained = self.bar + (0.0 if self.base is None else self.base.estimate)
        return (lowest, *(bar for bar in (self.bar, gained) if bar > lowest))


def rounded(count: int) -> str:
    """``4,500`` for 4465: two significant digits of an estimated number."""
    return f"{float(f'{count:.2g}'):,.0f}"


def accuracy_text(accuracy: Interval) -> str:
    """``54.2% (51.0% to 57.3% for the population, 256 images)``, or from how many batches."""
    about = f"{accuracy.images:,} images"
    if accuracy.kind is not None:
        about = f"{accuracy.low:.1%} to {accuracy.high:.1%} {accuracy.kind.phrase}, {about}"
        about += f"; {own_batches_text(accuracy)}" if accuracy.lower_as_attacked else ""
    else:
        about = f"no interval, {about} in {accuracy.batches:,} batches"
    return f"{accuracy.estimate:.1%} ({about})"


def own_batches_text(accuracy: Interval) -> str:
    """``in their own batches 0.5%, in 5 batches``; '' where each input is answered on its own."""
    if accuracy.own is None:
        return ""
    return f"in their own batches {accuracy.own.accuracy:.1%}, in {accuracy.own.batches:,} batches"
