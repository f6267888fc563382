"""The first screen of a report: what was asked, the answer, how sure it is, and what to do next.

    opening_of(run)            -> Opening
    opening(settings, ...)     -> Opening

Under 80 words that need no glossary; every figure in them is about the same settings.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.run import Run
from robustbench_coded.judge.verdict import NEXT_TO_NOTHING
from robustbench_coded.reports.run.next_command import NextCommand, next_command
from robustbench_coded.reports.run.settings import KeptAccuracy, Setting, other_attackers, settings_of
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import INFERENCE, counted, percent, pixels
from robustbench_coded.schema.case import Claim, Perturbation, Subject
from robustbench_coded.schema.words import STANDARD, VerdictName

NAME_WIDTH = 40
NO_VERDICT = "There is no verdict: no attack that gets one has outcomes."
_PLURAL = {"rci": "RCI settings", "coded": "coded inference settings"}
STANDS = "the claim stands"
TOO_FEW = "too few images to tell"
# The rules that leave a verdict open (judge/verdict.py), in plain words.
_OPEN = {
    "no outcomes": "outcomes are missing",
    "outcomes missing": "outcomes are missing",
    "base model not attacked": "the bare network was not attacked",
    "base model spared": "the bare network met weaker attacks",
    "interval contains the bar": TOO_FEW,
    "another attack may find more": "another attack may find more",
    "not converged": "longer attacks may find more",
    "useless gradient": "its gradients say nothing",
    "answers change with circumstances": "its answers change with circumstances",
    "published break": "a break of it is published",
}
# What is said of one setting, and of several that are all alike.
_SAID = {
    VerdictName.NO_GAIN: ("No: no gain.", "No gain for any of them."),
    VerdictName.WORSE_THAN_BASE: (
        "No: worse than the bare network.",
        "All are worse than the bare network.",
    ),
    VerdictName.BROKEN: ("No: broken.", "All are broken."),
    VerdictName.NO_FAILURE_FOUND: ("No failure found, which is no proof.",) * 2,
    VerdictName.NOT_SETTLED: ("Not settled.", "None is settled."),
    VerdictName.CLAIM_REFUTED: ("No: the claim is refuted.", "No: the claim is refuted for all."),
    STANDS: ("It stands so far, which is no proof.",) * 2,
}


class OpeningBars(NamedTuple):
    """Accuracies (fractions) of the settings, and of the bare networks beside them."""

    label: str
    settings: tuple[float, ...]
    bare: tuple[float, ...]


@dataclass(frozen=True)
class Opening:
    """The first screen.

    Attributes:
        asked: a question; empty where nothing was judged.
        answer: the verdicts.
        found: what is left under attack, and which attack decides.
        certainty: what was observed, and what that proves.
        next: what to do, and how long that takes.
        bars: clean accuracy, the paper's strongest attack, the strongest attack found.
        settings, bare: what the two kinds of bars are called.
    """

    asked: str
    answer: str
    found: str
    certainty: str
    next: NextCommand
    bars: tuple[OpeningBars, ...] = ()
    settings: str = ""
    bare: str = ""


def opening_of(run: Run) -> Opening:
    """The first screen of a run."""
    settings = settings_of(run)
    shared = {s.judgement.case for s in settings if s.verdict == VerdictName.NOT_SETTLED}
    unsettled = [j for j in run.judgements if j.verdict.name == VerdictName.NOT_SETTLED or j.case in shared]
    return opening(settings, other_attackers(run, settings), next_command(run, unsettled))


def opening(settings: Sequence[Setting], others: tuple[int, int], following: NextCommand) -> Opening:
    """The first screen in words.

    Args:
        others: how many verdicts under other threat models have another name, of how many.
    """
    if not settings:
        return Opening("", NO_VERDICT, "", "", following)
    subjects, claim = [s.subject for s in settings], settings[0].claim
    differ = (
        f"Other attackers: {others[0]} of {others[1]} verdicts differ." if others[0] and not claim else ""
    )
    found = (_kept(settings), _of_claim(settings), differ, _decided(settings))
    networks = {s.subject.checkpoint for s in settings}
    return Opening(
        asked=_asked(subjects, settings[0].judgement.perturbation)
        if claim is None
        else _claimed(subjects, claim),
        answer=_answer(settings),
        found=" ".join(filter(None, found)),
        certainty=_certainty(settings),
        next=following,
        bars=_bars(settings),
        settings=_named(subjects),
        bare="bare network" if len(networks) == 1 else "bare networks",
    )


def spread(values: Sequence[float]) -> str:
    """``0.4%`` or ``0.0% to 1.6%``."""
    low, high = f"{percent(min(values))}%", f"{percent(max(values))}%"
    return low if low == high else f"{low} to {high}"


def _asked(subjects: Sequence[Subject], perturbation: Perturbation) -> str:
    within = (
        f"{pixels(perturbation.eps)} per {'' if perturbation.eps_space == 'pixel' else 'normalised '}pixel"
    )
    change = (
        f"up to {within if perturbation.norm == 'linf' else f'{perturbation.norm} norm {perturbation.eps:g}'}"
    )
    change = f"of {counted(round(perturbation.eps), 'pixel')}" if perturbation.norm == "l0" else change
    verb, the = ("Does", "") if len(subjects) == 1 else ("Do", "the ")
    if subjects[0].defence == STANDARD:
        return f"{verb} {the}{_named(subjects)} withstand changes {change}?"
    networks = _networks(subjects)
    return f"{verb} {the}{_named(subjects)} protect {networks} against changes {change}?"


def _claimed(subjects: Sequence[Subject], claim: Claim) -> str:
    """Whether a claim is true."""
    under = "" if claim.attack is None else f" under {claim.attack}"
    eps = "" if claim.perturbation is None else f" at eps {pixels(claim.perturbation.eps)}"
    verb = "Does" if len(subjects) == 1 else "Do the"
    under = under if claim.votes == 1 else f" {claim.of_what}{under}"
    on = "" if subjects[0].defence == STANDARD else f" on {_networks(subjects)}"
    return f"{verb} {_named(subjects)}{on} keep the claimed {percent(claim.value)}%{under}{eps}?"


def _named(subjects: Sequence[Subject]) -> str:
    """``RCI``, ``9 RCI settings``, ``12 defences``, or the name of a network that has none."""
    kinds = {subject.defence.partition("[")[0] for subject in subjects}
    if kinds == {STANDARD}:
        return _networks(subjects)
    if len(subjects) > 1:
        return f"{len(subjects)} {_PLURAL.get(min(kinds), 'defences') if len(kinds) == 1 else 'defences'}"
    kind, bracket, options = subjects[0].defence.partition("[")
    return shortened(f"{INFERENCE.get(kind, kind)}{bracket}{options}", NAME_WIDTH)


def _networks(subjects: Sequence[Subject]) -> str:
    names = list(dict.fromkeys(subject.checkpoint for subject in subjects))
    return shortened(names[0], NAME_WIDTH) if len(names) == 1 else f"{len(names)} networks"


def _answer(settings: Sequence[Setting]) -> str:
    """The verdict; where settings have several, whether all fail, or how many do and how many are open."""
    verdicts = list(dict.fromkeys(_verdict(setting) for setting in settings))
    if len(settings) == 1 and verdicts == [VerdictName.NOT_SETTLED]:
        return f"Not settled: {why_open(settings[0])}."
    if len(verdicts) == 1:
        return _SAID[verdicts[0]][len(settings) > 1]
    failed = list(dict.fromkeys(_verdict(setting) for setting in settings if setting.condemned))
    if failed == verdicts:
        return "All fail."  # the table has the verdicts
    alike: dict[str, str] = {VerdictName.WORSE_THAN_BASE: "worse"}
    if len(failed) > 1:
        alike = dict.fromkeys(failed, "failed")
    counts = Counter(alike.get(verdict, verdict) for verdict in map(_verdict, settings))
    said = "; ".join(f"{verdict}: {count}" for verdict, count in counts.most_common())
    return f"{said[:1].upper()}{said[1:]}."


def _verdict(setting: Setting) -> str:
    """The verdict; where something is claimed, whether that is refuted, stands or is open."""
    if setting.claim is None or setting.condemned:
        return setting.verdict
    return STANDS if setting.praised else VerdictName.NOT_SETTLED


def why_open(setting: Setting) -> str:
    """The shortest reason for ``not settled``: the rule that decided, in plain words."""
    verdict, claim = setting.judgement.verdict, setting.claim
    if verdict.missing or setting.measured is None:
        return _OPEN["outcomes missing"]
    if claim is not None and setting.measured.low >= claim.value:
        return f"{counted(len(verdict.open_checks), 'check')} did not pass"
    return TOO_FEW if claim is not None else _OPEN.get(verdict.rule, TOO_FEW)


def _kept(settings: Sequence[Setting]) -> str:
    """What is left under attack, and what the bare networks keep."""
    left = [s.measured.estimate for s in settings if s.measured is not None]
    if not left:
        return ""
    bare = _present(settings, lambda kept: kept.left, bare=True)
    if len(settings) == 1:
        without = f"; its base model alone keeps {percent(bare[0])}%" if bare else ""
        return f"Under attack {percent(left[0])}% of its {_counted_in(settings[0])} are right{without}."
    if all(s.condemned for s in settings) or max(left) <= NEXT_TO_NOTHING:
        without = f"; the base models alone keep at most {percent(max(bare))}%" if bare else ""
        return f"Under attack none gets more than {percent(max(left))}% right{without}."
    without = f"; the base models alone keep {spread(bare)}" if bare else ""
    return f"Under attack {spread(left)} of answers are right{without}."


def _counted_in(setting: Setting) -> str:
    return "answers" if setting.claim is None else setting.claim.of_what.removeprefix("of ")


def _of_claim(settings: Sequence[Setting]) -> str:
    """What the attack of the claim leaves, where another one decides."""
    claim = settings[0].claim
    left = [s.claimed_attack for s in settings if s.claimed_attack is not None and s.claim is not None]
    if claim is None or not left or {s.attack for s in settings} == {claim.attack}:
        return ""
    return f"{claim.attack} alone leaves {spread(left)}."


def _decided(settings: Sequence[Setting]) -> str:
    attacks = {setting.attack for setting in settings if setting.attack}
    return f"Decided by {shortened(min(attacks), NAME_WIDTH)}." if len(attacks) == 1 else ""


def _certainty(settings: Sequence[Setting]) -> str:
    """What was observed, and what that proves: of these images, and of others."""
    measured = [s.measured for s in settings if s.measured is not None]
    if not measured:
        return ""
    sizes = sorted({s.examples for s in settings if s.measured is not None})
    images = f"on {' to '.join(f'{size:,}' for size in dict.fromkeys((sizes[0], sizes[-1])))} images"
    only, several = settings[0], len(settings) > 1
    if not several:
        images = f"{only.right:,} of {only.answers:,} {_counted_in(only)} right {images}"
    little = several and max(one.estimate for one in measured) <= NEXT_TO_NOTHING
    condemned, praised = little or all(s.condemned for s in settings), all(s.praised for s in settings)
    if several and not condemned and not praised:
        return f"Observed {images}; the table says what is proven of each."
    ends = [(one.low, one.high) for one in measured if one.others is not None]
    proven = [(ends, "on these images")] if ends else []
    proven.append(
        ([one.others or (one.low, one.high) for one in measured], "on others" if ends else "on other images")
    )
    said: list[str] = []
    for of, where in proven:
        low, high = min(low for low, _ in of), max(high for _, high in of)
        if condemned or praised:
            bound = "" if said else f"at {'most' if condemned else 'least'} "
            said.append(f"{bound}{percent(high if condemned else low)}% {where}")
        else:
            said.append(f"{spread((low, high))} {where}")
    together = " for all" if several else ""
    attacks = " (these attacks)" if praised else ""
    return f"Observed {images}; proven{together} (95%): {', '.join(said)}{attacks}."


def _bars(settings: Sequence[Setting]) -> tuple[OpeningBars, ...]:
    """Three groups of bars; the paper's attacks have none where none of them ran."""
    groups: tuple[tuple[str, Callable[[KeptAccuracy], float | None]], ...] = (
        ("clean images", lambda kept: kept.clean),
        ("strongest attack\nof the paper", lambda kept: kept.papers),
        ("strongest attack\nfound", lambda kept: kept.left),
    )
    bars = [
        OpeningBars(name, _present(settings, of), _present(settings, of, bare=True)) for name, of in groups
    ]
    return tuple(group for group in bars if group.settings)


def _present(
    settings: Sequence[Setting], of: Callable[[KeptAccuracy], float | None], *, bare: bool = False
) -> tuple[float, ...]:
    """One accuracy of each setting, or of the bare networks beside them, where it was measured."""
    kept = [s.bare if bare else s.kept for s in settings]
    values = [of(one) for one in kept if one is not None]
    return tuple(value for value in values if value is not None)
