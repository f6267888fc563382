"""The verdict on a defence under one threat model: an ordered table of rules, the first of which decides.

Everything that can change a verdict is in this table (docs/verdicts.md has it for readers). An upper end
below a bar condemns, whatever the checks say: an attack that was found is its own proof. A lower end below a
bar leaves the question open. What lies above is praised unless an objection stands. The bars are the margin,
for the gain over the base model (the accuracy that all attacks together leave the defence less what they
leave its base model, paired), and for the accuracy what uninformative inputs leave and a twentieth of the
clean accuracy (`broken_below`).

The error of an interval is not a rule. Each verdict has its own, valid at any look at which a run may stop
(`CaseResult.looks`), and shares nothing with others.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from robustbench_coded.judge.checks import Check, merged_steps
from robustbench_coded.judge.gradients import OF_THE_GRADIENT
from robustbench_coded.judge.intervals import TAIL, Interval, clopper_pearson
from robustbench_coded.judge.paired import Difference
from robustbench_coded.schema.case import Claim
from robustbench_coded.schema.words import DOUBLING, CheckName, VerdictName

NEXT_TO_NOTHING = 0.05  # of an accuracy: a stronger attack has little left to find
NEXT_STEPS_TOLD = 3
CONTAINS_BAR, FEW_CLASSES = "interval contains the bar", "too few classes"  # names of rules


@dataclass(frozen=True)
class Verdict:
    """Verdict of the rules, the rule that decided, and the figures it was applied to (fractions).

    Attributes:
        name: what the rule says.
        reason: the rule's name and its sentence, with what would settle an open question.
        accuracy: of the ensemble of all attacks with all of their outcomes; None without any.
        examples: the images, or victims, that it was measured on.
        bar: what the gain, or without a base model the accuracy, is held against.
        compared: whether the gain is, because the defence names a base model.
        broken_at: the accuracy up to which it is broken.
        gain: accuracy less that of the base model's ensemble, paired; None without a base.
        clean: accuracy on unperturbed inputs, of the same examples and draws.
        clean_loss: that of the base model less ``clean``, paired; None without a base.
        claim: what was claimed under this threat model and perturbation.
        claimed: the accuracy that the claim is about, as the ensemble leaves it; None if any is missing.
        refuted_by: which attack refutes the claim, and what the attack leaves that it names, as a clause; ''
            where it stands.
        beside: accuracy less that of the checkpoint's ensemble, paired, if the defence names no base model.
            No verdict depends on it: the defence may have nothing to do with the checkpoint.
        rule: the name of the rule that decided; brief: the rule in plain words.
        checks: those of the threat model and the self-tests.
        constant: whether clean inputs get no better answers than one constant answer.
        missing: whether outcomes of an attack are missing, on the defence or on its base model.
        stopped: True if the run was stopped before every rung of the protocol was asked.
        faulty: results of attacks on either that were no perturbed inputs.
        unmatched_attacks: what the base model was spared and the defence met, as a clause; '' where nothing
            matters.
        spared: the attacks that the base model should meet, too.
        breaks: published breaks of the defence, as their sources.
    """

    name: VerdictName
    reason: str
    accuracy: Interval | None
    bar: float
    compared: bool = False
    broken_at: float = 0.0
    gain: Difference | None = None
    clean: Interval | None = None
    clean_loss: Difference | None = None
    claim: Claim | None = None
    claimed: Interval | None = None
    refuted_by: str = ""
    beside: Difference | None = None
    rule: str = ""
    brief: str = ""
    checks: tuple[Check, ...] = ()
    constant: bool = False
    missing: bool = False
    stopped: bool = False
    faulty: int = 0
    unmatched_attacks: str = ""
    spared: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    examples: int = 0

    @property
    def open_checks(self) -> tuple[str, ...]:
        """Names of the checks that did not pass."""
        return tuple(check.name for check in self.checks if not check.passed)

    @property
    def examples_to_settle(self) -> int | None:
        """Images on which the interval that contains the bar is expected to leave it, if its estimate stays
        and it shortens with their square root; None where the estimate is the bar, or nothing was measured.
        """
        by_gain = self.compared and self.gain is not None and self.gain.low <= self.bar
        figure, bar = (self.gain, self.bar) if by_gain else (self.accuracy, self.broken_at)
        if figure is None or figure.estimate == bar:
            return None
        reach = figure.estimate - figure.low if figure.estimate > bar else figure.high - figure.estimate
        return max(self.examples + 1, math.ceil(self.examples * (reach / (figure.estimate - bar)) ** 2))

    @property
    def refuted_for(self) -> str:
        """Which images a claim is refuted for, as a clause; '' where it stands."""
        claim, left = self.claim, self.claimed
        if claim is None or left is None or left.high >= claim.value:
            return ""
        if left.population is None:
            return left.kind.phrase
        low, high = left.population
        beside = "and" if high < claim.value else "and open for"
        return f"{left.kind.phrase} {beside} the population ({low:.1%} to {high:.1%})"

    @property
    def tells(self) -> bool:
        """True if the images can show that it is broken."""
        return self.clean is None or self.broken_at < self.clean.low

    @property
    def keeps_less_than_margin(self) -> bool:
        """True if so little is left that the gain is below the margin, whatever the base model keeps."""
        return self.compared and self.accuracy is not None and self.accuracy.high < self.bar

    @property
    def above_the_bar(self) -> bool:
        """True if the figures leave room for praise, so that it depends on checks alone."""
        if self.accuracy is None or self.accuracy.low <= self.broken_at:
            return False
        return not self.compared or (self.gain is not None and self.gain.low > self.bar)

    @property
    def could_fall(self) -> bool:
        """True if a stronger attack has a question to answer: what it leaves could change this verdict, or,
        of a base model, those of its defences.
        """
        if self.name in (VerdictName.CLAIM_REFUTED, VerdictName.NO_GAIN, VerdictName.WORSE_THAN_BASE):
            return False
        if self.accuracy is None or (self.gain is not None and self.gain.estimate <= self.bar):
            return False
        return self.accuracy.estimate > NEXT_TO_NOTHING


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    Attributes:
        name: as reports and docs/verdicts.md have it.
        verdict: what it says.
        says: the figures in a sentence without its end; '' where the rule does not apply. Its docstring has
            when it applies and why it is a rule, a paragraph each.
        brief: the reason in plain words, where the name is not.
    """

    name: str
    verdict: VerdictName
    says: Callable[[Verdict], str]
    brief: str = ""


def decide(figures: Verdict) -> Verdict:
    """The verdict of the first rule that applies to these figures."""
    for rule in RULES:
        if said := rule.says(figures):
            reason = f"{rule.name.capitalize()}: {said}."
            if beside := figures.beside:
                kept = f"{beside.second:.1%}: {beside}"
                reason += f" It names no base model; its checkpoint alone keeps {kept}."
            if (claim := figures.claim) and figures.claimed and rule.verdict != VerdictName.CLAIM_REFUTED:
                reason += f" Claimed: {claim.value:.1%} {claim.of_what}; {told(figures.claimed)} is left."
            brief = rule.brief or rule.name
            return replace(figures, name=rule.verdict, reason=reason, rule=rule.name, brief=brief)
    raise AssertionError("the last rule always applies")


def is_final(verdict: Verdict, base_low: float, planned: int) -> bool:
    """True if no attack that is left, on the defence or on its base model, can change the verdict.

    Attacks only take right answers away: a refuted claim stays refuted, and what is broken without a base
    model to compare with stays broken. What keeps less than the margin gains nothing, whatever its base model
    keeps in the end, unless that is so much that the verdict could become ``worse than its base``.

    Args:
        verdict: at an error that holds for all of its looks.
        base_low: lower end of what the base model keeps so far; 0 without one.
        planned: examples that are evaluated if nothing stops; the least that a loss must exceed to be
            certain.
    """
    if verdict.name == VerdictName.CLAIM_REFUTED or (
        verdict.name == VerdictName.BROKEN and not verdict.compared
    ):
        return True
    could_lose = base_low > clopper_pearson(0, planned, TAIL)[1]
    return verdict.name == VerdictName.NO_GAIN and verdict.keeps_less_than_margin and not could_lose


# The rules. Each holds where those before it do not apply.


def _no_outcomes(v: Verdict) -> str:
    """No attack has all of its outcomes.

    There is nothing to judge.
    """
    return "no attack has all of its outcomes yet" if v.accuracy is None else ""


def _below_claim(v: Verdict) -> str:
    """The upper end of the accuracy that a claim is about is below the claim, and no outcomes are missing.

    One attack that leaves less refutes it, whatever the others leave.
    """
    if v.claim is None or v.claimed is None or not v.refuted_for:
        return ""
    said = f"the claimed {v.claim.value:.1%} {v.claim.of_what} is refuted {v.refuted_for}"
    return "; ".join(filter(None, (f"{said}, {told(v.claimed)} is left", v.refuted_by)))


def _below_base(v: Verdict) -> str:
    """The upper end of the gain is below 0, and the base model met what the defence met, or the defence keeps
    less than the margin.

    A found attack is its own proof. One that only the defence met would make it look worse than it is.
    """
    if v.gain is None or v.gain.high >= 0 or (v.unmatched_attacks and not v.keeps_less_than_margin):
        return ""
    return f"{_kept(v)}, a certain loss"


def _no_gain(v: Verdict) -> str:
    """The upper end of the gain is below the margin, and the base model met what the defence met; or the
    upper end of the accuracy itself is below the margin.

    A smaller gain does not matter. What keeps less than the margin gains no more, whatever its base keeps.
    """
    margin = f"the margin of {100 * v.bar:g} points"
    if v.gain is not None and v.gain.high < v.bar and not v.unmatched_attacks:
        return f"{_kept(v)}, {'a significant gain, but ' if v.gain.low > 0 else ''}below {margin}"
    if v.keeps_less_than_margin:
        return f"{_kept(v)}; that is less than {margin}, whatever its base model keeps"
    return ""


def _next_to_nothing(v: Verdict) -> str:
    """The upper end of the accuracy is at most the floor and a twentieth of the clean accuracy, and this
    threshold is below the lower end of the clean accuracy, as it never is where images are of one class.

    Under attack the answers are worth no more than a constant one, however large the gain.
    """
    if v.accuracy is None or not v.tells or v.accuracy.high > v.broken_at:
        return ""
    return f"{_kept(v)}; broken means at most {v.broken_at:.1%}"


def _constant(v: Verdict) -> str:
    """Clean inputs of two classes or more get no better answers than one constant answer, and the upper end
    of the clean accuracy is below 90%.

    Constants, guesses and rejections keep their accuracy under every attack.
    """
    return f"{_kept(v)}; clean inputs get no better answers than a constant one" if v.constant else ""


def _missing(v: Verdict) -> str:
    """Outcomes of an attack are missing, on the defence or on its base model, an attack gave results that are
    not finite or outside ball or box, or the run was stopped.

    They might be the worst. What the complete attacks decide is decided above.
    """
    if v.missing:
        return f"{_kept(v)}, but outcomes are missing; run it again"
    if v.faulty:
        faulty = f"an attack gave {v.faulty:,} faulty results ('What did not run'); mend it or leave it out"
        return f"{_kept(v)}, but {faulty}"
    return f"{_kept(v)}, but the run was stopped; the same command goes on" if v.stopped else ""


def _base_not_attacked(v: Verdict) -> str:
    """The defence names a base model that was not attacked.

    A gain is a difference.
    """
    if not v.compared or v.gain is not None:
        return ""
    return f"{_kept(v)}, and its base model was not attacked: attack standard inference, too"


def _base_spared(v: Verdict) -> str:
    """The upper end of the gain is below the margin, but the base model was spared an attack that the defence
    met.

    That attack might leave less of the base model, and the gain would be larger.
    """
    return (
        f"{_kept(v)}, but {v.unmatched_attacks}"
        if v.gain and v.gain.high < v.bar and v.unmatched_attacks
        else ""
    )


def _few_classes(v: Verdict) -> str:
    """The floor and a twentieth of the clean accuracy are as much as the clean accuracy, and the lower end
    of the accuracy is not above them.

    Where a constant answer is right on nearly everything, a robust defence looks like a broken one.
    """
    if v.clean is None or max(v.clean.estimate, v.accuracy.low if v.accuracy else 1.0) > v.broken_at:
        return ""
    kept = f"{_kept(v)}, and clean inputs {told(v.clean)}"
    return f"{kept}; a constant answer keeps as much: more images, of more classes, would settle it"


def _contains_bar(v: Verdict) -> str:
    """The lower end of the gain is not above the margin, or that of the accuracy not above what broken means.

    More examples decide this, not more attacks.
    """
    if v.above_the_bar:
        return ""
    images = v.examples_to_settle
    more = "no number of images is expected to settle it"
    if images is not None:
        more = f"about {images:,} images, where {v.examples:,} were evaluated, are expected to settle it"
    if v.compared and v.gain is not None and v.gain.low <= v.bar:
        return f"{_kept(v)}; this interval contains the margin of {100 * v.bar:g} points; {more}"
    return f"{_kept(v)}; the threshold for broken, {v.broken_at:.1%}, lies inside the interval; {more}"


def _another_attack(v: Verdict) -> str:
    """One of these did not pass: *another loss*, *transfer or black-box*, *falls with eps*, *attacks agree*,
    *what broke the base*.

    Where gradients mislead an attack, one that knows less or goes less far finds more.
    """
    concerned = (
        CheckName.ANOTHER_LOSS,
        CheckName.TRANSFER_OR_BLACK_BOX,
        CheckName.FALLS_WITH_EPS,
        CheckName.ATTACKS_AGREE,
        CheckName.WHAT_BROKE_THE_BASE,
    )
    return _objection(v, concerned)


def _not_converged(v: Verdict) -> str:
    """*Twice the steps*, *twice the draws* or *twice the restarts* did not pass.

    A longer attack would leave less.
    """
    return _objection(v, DOUBLING)


def _useless_gradient(v: Verdict) -> str:
    """A self-test of the gradient did not pass, and no attack by relaxed gradients or by
    labels comes close to the ensemble.

    A gradient that says nothing silences attacks. It makes nothing robust.
    """
    return _objection(v, OF_THE_GRADIENT)


def _circumstances(v: Verdict) -> str:
    """Another self-test did not pass: answers change with who asks, how, or for what.

    What is attacked must be what is scored, and what is scored what is used.
    """
    return _objection(v, v.open_checks)


def _published_break(v: Verdict) -> str:
    """A break of the defence is published (the board alone knows).

    Others found what these attacks did not.
    """
    if not v.breaks:
        return ""
    sources = ", ".join(v.breaks)
    return (
        f"{_kept(v)}, but a break of the defence is published ({sources}); these attacks do not outweigh it"
    )


def _nothing_found(v: Verdict) -> str:
    """None of these.

    An upper bound on robustness, never a proof.
    """
    return f"{_kept(v)}; every check passed: an upper bound, not a proof"


RULES = (
    Rule("no outcomes", VerdictName.NOT_SETTLED, _no_outcomes),
    # An upper end is below a bar: condemned, whatever the checks say.
    Rule("below the claim", VerdictName.CLAIM_REFUTED, _below_claim),
    Rule("below its base", VerdictName.WORSE_THAN_BASE, _below_base),
    Rule("gain below the margin", VerdictName.NO_GAIN, _no_gain),
    Rule("next to nothing left", VerdictName.BROKEN, _next_to_nothing),
    Rule("constant answers", VerdictName.BROKEN, _constant),
    # A lower end is below a bar, or there is none: open.
    Rule("outcomes missing", VerdictName.NOT_SETTLED, _missing),
    Rule("base model not attacked", VerdictName.NOT_SETTLED, _base_not_attacked),
    Rule("base model spared", VerdictName.NOT_SETTLED, _base_spared, "its base model met weaker attacks"),
    Rule(FEW_CLASSES, VerdictName.NOT_SETTLED, _few_classes, "too few classes to tell"),
    Rule(CONTAINS_BAR, VerdictName.NOT_SETTLED, _contains_bar, "too few images to tell"),
    # Above the bars: praised, unless an objection stands.
    Rule("another attack may find more", VerdictName.NOT_SETTLED, _another_attack),
    Rule("not converged", VerdictName.NOT_SETTLED, _not_converged, "longer attacks may find more"),
    Rule("useless gradient", VerdictName.NOT_SETTLED, _useless_gradient, "its gradients say nothing"),
    Rule("answers change with circumstances", VerdictName.NOT_SETTLED, _circumstances),
    Rule("published break", VerdictName.NOT_SETTLED, _published_break, "a break of it is published"),
    Rule("nothing found", VerdictName.NO_FAILURE_FOUND, _nothing_found),
)


def _objection(v: Verdict, concerned: Collection[str]) -> str:
    """What is open, and what would settle it; '' where no check that is ``concerned`` is."""
    if not set(concerned) & set(v.open_checks):
        return ""
    unpassed = [check for check in v.checks if not check.passed]
    named = ", ".join(f"{check.name} ({check.outcome})" for check in unpassed)
    steps = merged_steps(check.next_step for check in unpassed if check.next_step)[:NEXT_STEPS_TOLD]
    told = f". To settle it: {'; '.join(map(str, steps))}" if steps else ""
    return f"{_kept(v)}, but not every check passed: {named}{told}"


def _kept(v: Verdict) -> str:
    """What all attacks together leave, beside what they leave the base model where it was attacked."""
    missing = " (attacks with missing outcomes do not count)" if v.missing else ""
    if v.gain is not None:
        defence, base = v.gain.first, v.gain.second
        kept = f"robust accuracy is {defence:.1%} for the defence and {base:.1%} for its base model"
        return f"{kept}{missing}: {v.gain}"
    assert v.accuracy is not None  # the first rule
    return f"robust accuracy is {told(v.accuracy)}{missing}"


def told(accuracy: Interval) -> str:
    """``54.2% (51.0% to 57.3% for the population)``"""
    return f"{accuracy.estimate:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%} {accuracy.kind.phrase})"
