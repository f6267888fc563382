"""What stands beside the answer: what is missing, mistaken, hidden, or can be checked."""

from collections import Counter
from typing import Any

from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import (
    counted,
    hiding_text,
    perturbation_text,
    series,
    subject_text,
)
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import Outlook, ProbeRecord, RunManifest, as_sentences
from robustbench_coded.schema.words import Rung

LEAVES = "numpy"  # as the probe calls it where an answer leaves torch through numpy


def remarks_on(run: RunData) -> list[str]:
    """Sentences that stand below the answer."""
    remarks = _doubtful(run.manifest)
    if run.failures:
        remarks.append(
            f"{run.missing}; these are not counted in any accuracy. The same command computes them."
        )
    remarks += hidden_gradients(run.manifest)
    return remarks


def failures_of(run: RunData) -> list[str]:
    """Cases that did not run: how many cases, and a sentence for each subject, threat model and reason."""
    planned = {record.case: len(record.all_units) or 1 for record in run.manifest.cases}
    groups: dict[tuple[Case, str], list[str]] = {}
    for (case, error), count in Counter((failure.case, failure.error) for failure in run.failures).items():
        part = "" if count == planned[case] else f" ({count} of {planned[case]} units)"
        groups.setdefault((case.setting, error), []).append(f"{case.attack}{part}")
    sentences = [
        f"{series(attacks)} on {subject_text(setting.subject, with_k=True)} under {setting.threat}, "
        f"{perturbation_text(setting.perturbation)}: {error}"
        for (setting, error), attacks in groups.items()
    ]
    missing = [f"{run.missing}."] if groups else []
    return [*missing, *sentences, *faulty(run), *as_sentences(run.manifest.not_run), *left_out(run)]


def faulty(run: RunData) -> list[str]:
    """Attacks that gave results which are no perturbed inputs, a sentence per row."""
    return [
        f"{row.attack} under {row.threat} on {subject_text(row.subject, with_k=True)}: "
        f"{counted(row.faulty, 'result')} not finite, or outside eps or the box; clean images were scored in "
        "their place, and for a positive verdict the attack counts as not run"
        for row in run.rows
        if row.faulty and row.measured
    ]


def left_out(run: RunData) -> list[str]:
    """The next step of each open verdict, a sentence: its price and the option that runs it."""
    return [
        f"{subject_text(entry.case.subject, with_k=True)} under {entry.case.threat}, "
        f"{perturbation_text(entry.case.perturbation)}: {need_text(entry)} did not run; "
        f"about {entry.images:,} gradients; {entry.option} runs it"
        for entry in run.manifest.outlook
        if isinstance(entry.case, Case)
    ]


def need_text(need: Outlook) -> str:
    """The next step of a verdict, in a clause."""
    if need.batches:
        return f"{need.batches:,} random batches of {series(need.attacks)}"
    if need.rung == Rung.MORE_EXAMPLES:
        return f"every attack on {need.examples:,} images"
    return series(need.attacks)


def commands_of(run: RunData) -> list[str]:
    """The commands that made this folder, each once, in their order."""
    return list(dict.fromkeys(shell(list(i.command)) for i in run.manifest.invocations if i.command))


def hidden_gradients(manifest: RunManifest) -> list[str]:
    """Where each defence's gradient is lost, as its probe recorded it."""
    sentences: dict[str, None] = {}
    for probe in manifest.probes:
        causes = _causes(probe)
        if causes:
            who = f"{probe.subject.defence} on {probe.subject.checkpoint}"
            sentences[f"{who}: {'; '.join(causes)}. The relaxed- attacks replace this gradient."] = None
    return list(sentences)


def _causes(probe: ProbeRecord) -> list[str]:
    operators = [operator for operator in probe.hidden_by if _usable(operator)]
    names = {operator["operator"] for operator in operators}
    if LEAVES in names:  # an image is detached on its way there
        operators = [operator for operator in operators if operator["operator"] not in (LEAVES, "detach")]
        return ["its answers leave torch through numpy, where gradients end", *map(hiding_text, operators)]
    if not operators and probe.figures.get("no_gradient") is True:
        return ["its answers leave torch, through numpy or other code, and have no gradient in the input"]
    return [hiding_text(operator) for operator in operators]


def _usable(operator: dict[str, Any]) -> bool:
    scale = operator.get("scale")
    return (
        isinstance(operator.get("operator"), str)
        and type(operator.get("calls")) is int
        and (scale is None or type(scale) in (int, float))
    )


def _doubtful(manifest: RunManifest) -> list[str]:
    """Checkpoints that may be other networks than those they were evaluated as."""
    return [
        f"{c.name} is evaluated as {c.arch}, and may be another network: {'; '.join(map(str, clauses))}."
        for c in manifest.checkpoints
        if isinstance(clauses := c.recognition.get("contradictions"), list) and clauses
    ]
