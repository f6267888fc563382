"""The judgements of a run: for each subject, threat model and perturbation its verdict and the figures behind
it, made once for everything that shows them; and the self-tests of the subjects, as checks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct, ValidationError, convert

from attacks.presets import LAST_RESORT, TRANSFER
from robustbench_coded.judge import attack_checks, case_results, gradients, verdict
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.judge import judge
from robustbench_coded.runs.folder import read_selftests
from robustbench_coded.schema import words
from robustbench_coded.schema.case import Case, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.manifest import RunManifest, Stage

_RUN_NEXT = (*LAST_RESORT, TRANSFER)


class SelfTestResult(Struct, frozen=True):
    """One self-test of one subject."""

    name: str
    outcome: Literal["passed", "failed", "not applicable"]
    finding: str


def selftest_results(path: Path, manifest: RunManifest) -> dict[Subject, tuple[SelfTestResult, ...]]:
    """By subject that was to be self-tested; none where the results cannot be read."""
    stored = read_selftests(path)
    return {
        probe.subject: _tests(stored.get(probe.selftests, {}))
        for probe in manifest.probes
        if probe.selftests is not None
    }


def _tests(data: dict[str, Any]) -> tuple[SelfTestResult, ...]:
    try:
        return convert(data.get("tests", ()), tuple[SelfTestResult, ...])
    except ValidationError:
        return ()


def _failed(test: SelfTestResult) -> Check:
    """What a failed one asks for: only those of the gradient can be answered by attacks."""
    name = f"{words.CheckName.SELF_TESTS}: {test.name}"
    if test.name in words.GRADIENT_SELF_TESTS:
        return Check(name, words.CheckOutcome.FAILED, test.finding, run_next=_RUN_NEXT)
    finding = f"{test.finding} No attack answers for it: see the defence."
    return Check(name, words.CheckOutcome.FAILED, finding)


def selftest_checks(tests: Sequence[SelfTestResult]) -> tuple[Check, ...]:
    """The self-tests of one subject as checks: those that failed, else one."""
    if not tests:
        missing = Check(
            words.CheckName.SELF_TESTS,
            words.CheckOutcome.NOT_RUN,
            "The attacks were not self-tested: run it again.",
        )
        return (missing,)
    outcomes = ("passed", "failed", "not applicable")
    by_outcome = {outcome: [t for t in tests if t.outcome == outcome] for outcome in outcomes}
    # The relaxed one says what may answer for the others.
    failed = tuple(_failed(test) for test in by_outcome["failed"] if test.name != words.RELAXED_SELF_TEST)
    if failed:
        relaxed = (test for test in by_outcome["passed"] if test.name == words.RELAXED_SELF_TEST)
        return (
            *failed,
            *(Check(words.RELAXED_CHECK, words.CheckOutcome.PASSED, t.finding) for t in relaxed),
        )
    passed, other = by_outcome["passed"], by_outcome["not applicable"]
    finding = f"{len(passed)} passed ({', '.join(test.name for test in passed)})"
    if other:
        finding += f"; not applicable: {', '.join(test.name for test in other)}"
    return (Check(words.CheckName.SELF_TESTS, words.CheckOutcome.PASSED, f"{finding}."),)


@dataclass(frozen=True)
class Judgement:
    """The verdict on one subject under one threat model and perturbation budget.

    Attributes:
        case: of its ensemble.
        attack: the strongest; '' before any has outcomes, and if no attack is stronger than a control.
        examples: number of images that were attacked; 0 if only unperturbed inputs were scored.
    """

    case: Case
    verdict: verdict.Verdict
    attack: str = ""
    examples: int = 0

    def __str__(self) -> str:
        """The judgement in a line: ``erm, rci N=190, batch/unknown, linf 0.03: no gain``, accuracy."""
        known = "" if self.verdict.accuracy is None else f", {self.accuracy_text}"
        return f"{self.name}: {self.verdict.name_with_meaning}{known}"

    @property
    def checks(self) -> tuple[Check, ...]:
        return self.verdict.checks

    @property
    def name(self) -> str:
        """``erm, rci K=128 N=190, batch/unknown, linf 0.03137``."""
        subject, perturbation = self.subject, self.perturbation
        sizes = [f"{letter}={size}" for letter, size in (("K", subject.k), ("N", subject.n)) if size]
        inference = " ".join([subject.defence, *sizes])
        budget = f"{perturbation.norm} {perturbation.eps:.4g}"
        return ", ".join((subject.checkpoint, inference, str(self.threat), budget))

    @property
    def accuracy_text(self) -> str:
        """``robust accuracy 0.0% [0.0%, 5.6%] for the population``, or ``nothing is known``."""
        if (a := self.verdict.accuracy) is None:
            return "nothing is known"
        ends = f"[{a.low:.1%}, {a.high:.1%}] {a.kind.phrase}" if a.kind else "without an interval"
        return f"robust accuracy {a.estimate:.1%} {ends}"

    @property
    def subject(self) -> Subject:
        return self.case.subject

    @property
    def perturbation(self) -> Perturbation:
        return self.case.perturbation

    @property
    def threat(self) -> ThreatModel:
        return self.case.threat


def judgements_of(
    results: Sequence[case_results.CaseResult],
    manifest: RunManifest,
    selftests: Mapping[Subject, tuple[Check, ...]] = MappingProxyType({}),
) -> Iterator[Judgement]:
    """A judgement for every ensemble of a run, in its order.

    Args:
        selftests: the checks of each subject that came of its self-tests.
    """
    judged = manifest.judged_perturbations
    claims = [call.claim for call in manifest.invocations if call.claim is not None]
    of_standard = is_about_standard(manifest, (result.case.subject for result in results))
    # A setting of which nothing has run yet has no ensemble, but a verdict: it is open.
    planned = {r.case.setting: r for r in results if r.case.attack not in (*words.CONTROLS, *words.COMBINED)}
    begun = {r.case.setting for r in results if r.case.attack == words.ENSEMBLE}
    waiting = [
        replace(r, case=setting.of_attack(words.ENSEMBLE), cell=None, clean=None, complete=False, sources=())
        for setting, r in planned.items()
        if setting not in begun
    ]
    for result in (*results, *waiting):
        if result.case.attack != words.ENSEMBLE or result.case.perturbation not in judged:
            continue
        # A claim is about the defences given; without one it is about the model itself.
        about = result.case.subject.defence != words.STANDARD or of_standard
        claim = claims[-1] if claims and about else None
        checks = _checks(results, result, manifest.stages, selftests)
        margin = words.MARGIN if manifest.last.margin is None else manifest.last.margin
        stopped = manifest.protocol is not None and manifest.protocol.stopped
        verdict = judge(results, result, checks, margin=margin, claim=claim, stopped=stopped)
        strongest = result.combination.strongest_attack
        attacked = any(source.attack not in words.CONTROLS for source in result.sources)
        images = len(result.cell.example) if attacked and result.cell is not None else 0
        yield Judgement(
            result.case,
            verdict,
            attack="" if strongest in words.CONTROLS else strongest,
            examples=max(images, verdict.examples) if images else 0,  # random batches may miss an image
        )


def _checks(
    results: Sequence[case_results.CaseResult],
    result: case_results.CaseResult,
    stages: Sequence[Stage],
    selftests: Mapping[Subject, tuple[Check, ...]],
) -> tuple[Check, ...]:
    """The checks of an ensemble, with those of the gradient that other attacks answer."""
    checks = [
        *_stage_checks(results, result.case, stages),
        *attack_checks.other_attacks(results, result),
        *attack_checks.converged(results, result),
        *selftests.get(result.case.subject, ()),
    ]
    return gradients.answered(checks, results, result)


def _stage_checks(
    results: Sequence[case_results.CaseResult], case: Case, stages: Sequence[Stage]
) -> Iterator[Check]:
    """A check for each stage of the protocol that did not run, whatever named its attacks; where the draw is
    known no verdict is positive, and there are none.
    """
    own = [stage for stage in stages if stage.case == case.setting]
    ran = {(result.case.setting, result.case.attack) for result in results if result.complete}
    for stage in own:
        missing = [name for name in stage.attacks if (stage.within or stage.case, name) not in ran]
        if missing:
            brief = f"{stage.name} did not run"
            detail = "" if stage.within else f" ({', '.join(missing)})"
            yield Check(stage.name, words.CheckOutcome.NOT_RUN, f"{brief}{detail}.", brief=brief)
    if not own and not case.threat.draw_known:
        brief = "no stage of the protocol ran" if case.perturbation.eps else "at eps 0 nothing is attacked"
        yield Check("stages", words.CheckOutcome.NOT_RUN, f"{brief}.", brief=brief)


def is_about_standard(manifest: RunManifest, subjects: Iterable[Subject]) -> bool:
    """True if standard inference is what a run asks about: no other inference is among its subjects, or a
    command named it as a defence (``--defence standard``).
    """
    alone = all(subject.defence == words.STANDARD for subject in subjects)
    named = (invocation.options.get("defence") for invocation in manifest.invocations)
    return alone or any(words.STANDARD in each for each in named if isinstance(each, list | tuple))
