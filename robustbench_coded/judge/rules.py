"""The rules of verdicts: an ordered table, the first of which decides (docs/verdicts.md).

Everything that can change a verdict is in this table. An upper confidence limit below a threshold gives a
negative verdict, whatever the checks say. A lower limit below a threshold leaves the verdict open. Anything
above is positive unless a check objects. The thresholds are the minimum gain, for the gain over the base
model (paired), and for the accuracy chance level plus 5% of the clean accuracy (`broken_below`).

The error of an interval is not a rule. Each verdict has its own, valid at every interim analysis at which a
run may stop (`CaseResult.looks`), not corrected for multiple verdicts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from robustbench_coded.judge.verdict import (
    CONTAINS_THRESHOLD,
    NOTHING,
    OTHER_ATTACKS,
    Needs,
    Verdict,
    accuracy_text,
    own_batches_text,
    rounded,
)
from robustbench_coded.schema.words import CheckName, Rung, VerdictName


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    Attributes:
        name: as reports and docs/verdicts.md have it.
        verdict: what it says.
        says: the figures in a sentence without its end; '' where the rule does not apply.
        needs: the rungs that may still change it, or must have been climbed.
        when: it applies, where no rule above does: a sentence of docs/verdicts.md and of reports.
        brief: the reason in plain words, where the name is not.
    """

    name: str
    verdict: VerdictName
    says: Callable[[Verdict], str]
    needs: Callable[[Verdict], Needs]
    when: str
    brief: str = ""


OPEN_CHECK = "open check"
NO_INTERVAL = "disjoint batches alone, or too few --draws of each, have no interval"


def decide(figures: Verdict) -> Verdict:
    """The verdict of the first rule that applies to these figures."""
    for rule in RULES:
        if text := rule.says(figures):
            reason = f"{rule.name.capitalize()}: {text}."
            if beside := figures.beside:
                numbers = f"{beside.second:.1%}: {beside}"
                reason += f" It names no base model; its checkpoint alone keeps {numbers}."
            if (claim := figures.claim) and figures.claimed and rule.verdict != VerdictName.CLAIM_REFUTED:
                claimed = accuracy_text(figures.claimed)
                reason += f" Claimed: {claim.value:.1%} {claim.of_what}; {claimed} is left."
            if figures.unknown_draw and figures.accuracy and figures.accuracy.high < 1:
                most = f"{figures.accuracy.high:.1%} for {figures.unknown_draw}"
                reason += (
                    f" The draw is known: the upper confidence limit is that of an unknown draw, {most}."
                )
            brief = "no interval" if text.endswith(NO_INTERVAL) else rule.brief or rule.name
            if rule.name == OPEN_CHECK:
                brief = next((c.brief for c in figures.checks if c.brief and not c.passed), brief)
            found = replace(figures, name=rule.verdict, reason=reason, rule=rule.name, brief=brief)
            return replace(found, needs=rule.needs(figures))
    raise AssertionError("the last rule always applies")


def _below_claim(v: Verdict) -> str:
    if v.claim is None or v.claimed is None or not v.refuted_for:
        return ""
    clause = f"the claimed {v.claim.value:.1%} {v.claim.of_what} is refuted {v.refuted_for}"
    return "; ".join(filter(None, (f"{clause}, {accuracy_text(v.claimed)} is left", v.refuted_by)))


def _below_base(v: Verdict) -> str:
    if v.gain is None or v.gain.high >= 0 or (v.unmatched_attacks and not v.keeps_less_than_margin):
        return ""
    return f"{_gain(v)}, a certain loss"


def _no_gain(v: Verdict) -> str:
    least = f"the minimum gain of {100 * v.bar:g} points"
    if v.gain is not None and v.gain.high < v.bar and not v.unmatched_attacks:
        return f"{_gain(v)}, below {least}"
    if v.keeps_less_than_margin:
        return f"{_gain(v)}; that is less than {least}, whatever its base model keeps"
    return ""


def _at_chance_level(v: Verdict) -> str:
    if v.accuracy is None or not v.tells or v.accuracy.high > v.broken_at:
        return ""
    beside = f"; the minimum gain is {100 * v.bar:g} points" if v.gain is not None else ""
    return f"{_gain(v)}{beside}; at most the chance threshold, {v.broken_at:.1%}, is left"


def _constant(v: Verdict) -> str:
    constant = "predictions on clean inputs are no more accurate than a constant prediction"
    return f"{_gain(v)}; {constant}" if v.constant else ""


def _incomplete(v: Verdict) -> str:
    if v.accuracy is None:
        return "no attack has all of its outcomes yet"
    if v.missing:
        return f"{_gain(v)}, but outcomes are missing; run it again"
    if v.faulty:
        faulty = f"an attack gave {v.faulty:,} faulty results ('What did not run'); mend it or leave it out"
        return f"{_gain(v)}, but {faulty}"
    if v.stopped:
        return f"{_gain(v)}, but the run was stopped; the same command goes on"
    if v.compared and v.gain is None:
        return f"{_gain(v)}, and its base model was not attacked: add standard inference, or an attack for it"
    return ""


def _other_attacks(v: Verdict) -> str:
    told = v.gain and (v.gain.high < v.bar or v.gain.low > v.bar) and v.unmatched_attacks
    return f"{_gain(v)}, but {v.unmatched_attacks}" if told else ""


def _contains_threshold(v: Verdict) -> str:
    if v.above_the_bar:
        return ""
    if v.few_classes and v.clean:
        clause = f"{_gain(v)}, and clean inputs {accuracy_text(v.clean)}"
        return f"{clause}; a constant prediction is as accurate: images of more classes would settle it"
    if unbounded := _unbounded(v):
        return f"{_gain(v)}; {unbounded}"
    images = v.examples_to_settle
    more = "no number of images is expected to settle it"
    if images is not None:
        more = f"{v.examples:,} images were evaluated, and about {rounded(images)} are expected to settle it"
    if v.compared and v.gain is not None and v.gain.low <= v.bar:
        return f"{_gain(v)}; this interval contains the minimum gain of {100 * v.bar:g} points; {more}"
    if v.clean and v.accuracy and v.accuracy.high <= v.broken_at:
        clause = f"clean inputs {accuracy_text(v.clean)}: this interval contains the chance threshold"
        return f"{_gain(v)}; {clause}, {v.broken_at:.1%}; {more}"
    return f"{_gain(v)}; the chance threshold, {v.broken_at:.1%}, lies inside the interval; {more}"


def _unbounded(v: Verdict) -> str:
    """Why no interval leaves room for a positive verdict, as a clause; '' where one does."""
    figure = v.accuracy if v.accuracy is None or v.accuracy.kind is None else v.gain
    if v.accuracy is not None and (at := _as_attacked(v)):
        return f"{own_batches_text(v.accuracy)}: {at}"
    if figure is None or figure.kind is not None:
        return ""
    if v.unknown_draw:
        return "where the draw is known, only negative verdicts are given"
    return NO_INTERVAL


def _as_attacked(v: Verdict) -> str:
    """What holds back a positive verdict in the batches that the attacker made, as a clause; else ''."""
    if v.accuracy is None or v.accuracy.kind is None or v.accuracy.own is None:
        return ""
    if v.accuracy.lower_as_attacked:
        return "inputs that are made together do more there, and these batches are too few"
    if v.accuracy.as_attacked <= v.broken_at < v.accuracy.low:
        return f"that is at most the chance threshold, {v.broken_at:.1%}"
    if v.compared and v.gain is not None and v.gain.as_attacked <= v.bar < v.gain.low:
        return f"the gain there is {100 * v.gain.as_attacked:+.1f} points, at most the minimum gain"
    return ""


def _open_check(v: Verdict) -> str:
    open_ = ", ".join(c.brief or f"{c.name} ({c.outcome})" for c in v.checks if not c.passed)
    return f"{_gain(v)}, but not every check passed: {open_}" if open_ else ""


def _published_break(v: Verdict) -> str:
    if not v.breaks:
        return ""
    sources = ", ".join(v.breaks)
    return (
        f"{_gain(v)}, but a break of the defence is published ({sources}); these attacks do not outweigh it"
    )


def _no_failure(v: Verdict) -> str:
    return f"{_gain(v)}; every check passed: an upper bound, not a proof"


ATTACKS = Needs((Rung.QUICK, Rung.CONFIRM, Rung.ADAPTIVE, Rung.CROSS_EXAMINATION))
EVERYTHING = Needs((*ATTACKS.rungs, Rung.BEFORE_POSITIVE))
OF_ITS_BASE = Needs(ATTACKS.rungs, base_alone=True)


def _of_its_base(v: Verdict) -> Needs:
    """What keeps less than the minimum gain does not gain as much, whatever its base model keeps in the end,
    unless that is so much that the defence may be certain to lose.
    """
    return OF_ITS_BASE if not v.keeps_less_than_margin or v.could_lose else NOTHING


def _images(v: Verdict) -> Needs:
    """More images, and where none are left everything else: if the figure is above the threshold, or an
    attack without gradients did better than those with.
    """
    misled = any(check.failed and check.name == CheckName.TRANSFER_OR_BLACK_BOX for check in v.checks)
    below = v.gain is not None and v.gain.estimate <= v.bar
    return Needs((*(ATTACKS if below and not misled else EVERYTHING).rungs, Rung.MORE_EXAMPLES))


# One line for the name, the verdict and the condition of a row.
# fmt: off
RULES = (
    # An upper confidence limit is below a threshold: negative, whatever the checks say.
    Rule("below the claim", VerdictName.CLAIM_REFUTED, _below_claim, lambda v: NOTHING,
        when=(
            "The upper confidence limit of the claimed quantity is below the claim, and no outcomes are "
            "missing."
        ),
    ),
    Rule("below its base", VerdictName.WORSE_THAN_BASE, _below_base, lambda v: OF_ITS_BASE,
        when=(
            "The upper confidence limit of the gain is below 0, and either the base model was attacked at "
            "least as strongly as the defence, or the defence retains less than the minimum gain."
        ),
    ),
    Rule("accuracy at chance level", VerdictName.BROKEN, _at_chance_level, lambda v: NOTHING,
        when=(
            "The upper confidence limit of the accuracy is at most chance level plus 5% of the clean "
            "accuracy, and this threshold is below the lower confidence limit of the clean accuracy. The "
            "latter never holds for images of a single class."
        ),
    ),
    Rule("constant predictions", VerdictName.BROKEN, _constant, lambda v: NOTHING,
        when=(
            "On clean inputs of at least two classes, predictions are no more accurate than a constant "
            "prediction, and the upper confidence limit of the clean accuracy is below 90%."
        ),
    ),
    Rule("gain below the minimum", VerdictName.NO_GAIN, _no_gain, _of_its_base,
        when=(
            "The upper confidence limit of the gain is below the minimum gain, and the base model was "
            "attacked at least as strongly as the defence. Or that of the accuracy itself is."
        ),
    ),
    # A lower confidence limit is below a threshold, or there is none: open.
    Rule("incomplete", VerdictName.NOT_SETTLED, _incomplete, lambda v: EVERYTHING,
        when=(
            "No attack is complete; or outcomes of an attack on the defence or its base model are missing, "
            "an attack returned non-finite inputs or inputs outside the eps ball or [0, 1], the run was "
            "stopped, or the base model that the defence names was not attacked."
        ),
    ),
    Rule(OTHER_ATTACKS, VerdictName.NOT_SETTLED, _other_attacks, lambda v: ATTACKS,
        when=(
            "The upper confidence limit of the gain is below the minimum gain, but an attack that ran on the "
            "defence did not run on the base model. Or the gain exceeds the minimum gain, but not when "
            "computed from the attacks that ran on both."
        ),
        brief="other attacks ran on its base model",
    ),
    Rule(CONTAINS_THRESHOLD, VerdictName.NOT_SETTLED, _contains_threshold, _images,
        when=(
            "The lower confidence limit of the gain is not above the minimum gain, or that of the accuracy "
            "is not above the chance threshold, or one of the two is not above it as attacked, or the "
            "figure has no interval, or accuracy is over 3 points lower as attacked. Or the threshold is at "
            "least the clean accuracy."
        ),
        brief="too few images to tell",
    ),
    # Above the thresholds: positive, unless an objection stands.
    Rule(OPEN_CHECK, VerdictName.NOT_SETTLED, _open_check, lambda v: EVERYTHING,
        when=(
            "A stage of the protocol did not run, whatever list named its attacks; or a check or a self-test "
            "did not pass, and nothing else answers for it."
        ),
        brief="a check is open",
    ),
    Rule("published break", VerdictName.NOT_SETTLED, _published_break, lambda v: NOTHING,
        when="A published evaluation breaks the defence (considered on the leaderboard only).",
        brief="a published evaluation breaks it",
    ),
    Rule("nothing found", VerdictName.NO_FAILURE_FOUND, _no_failure, lambda v: EVERYTHING,
        when="No rule above applies.",
    ),
)
# fmt: on


def _gain(v: Verdict) -> str:
    """Robust accuracy, beside that of the base model where it was attacked."""
    missing = " (attacks with missing outcomes are ignored)" if v.missing else ""
    if v.gain is not None:
        defence, base = v.gain.first, v.gain.second
        clause = f"robust accuracy is {defence:.1%} for the defence and {base:.1%} for its base model"
        return f"{clause}{missing}: {v.gain}"
    assert v.accuracy is not None  # the first rule
    return f"robust accuracy is {accuracy_text(v.accuracy)}{missing}"
