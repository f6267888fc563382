"""The facts of a report beside its tables: what did not run, what may mislead, how the run was made, and what
it does not prove.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from msgspec import structs

from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.run.next_command import need_text
from robustbench_coded.reports.text.attack_names import attack_text
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import (
    THREAT_PARTS,
    counted,
    hiding_text,
    is_submitted,
    perturbation_text,
    series,
    subject_text,
)
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import CheckpointFacts, ProbeRecord, RunManifest, as_sentences
from robustbench_coded.schema.words import CLEAN, COMBINED, CONTROLS

LIMITS = (
    "Accuracy under attack is an upper bound on robust accuracy: stronger attacks may lower it. "
    "This report contains no certified bounds.",
    "The intervals do not account for other attacks, other training runs or distribution shift.",
)


def remarks_on(run: RunData) -> list[str]:
    """Sentences that stand below the answer: mistaken networks, missing outcomes, hidden gradients."""
    remarks = [
        f"{c.name} is evaluated as {c.arch}, and may be another network: {'; '.join(map(str, clauses))}."
        for c in run.manifest.checkpoints
        if isinstance(clauses := c.recognition.get("contradictions"), list) and clauses
    ]
    if run.failures:
        remarks.append(
            f"{run.missing}; these are not counted in any accuracy. The same command computes them."
        )
    return remarks + hidden_gradients(run.manifest)


def failures_of(run: RunData) -> list[str]:
    """A sentence for each subject, threat model and reason for which attacks did not run."""
    planned = {record.case: len(record.all_units) or 1 for record in run.manifest.cases}
    groups: dict[tuple[Case, str], list[str]] = {}
    for (case, error), count in Counter((failure.case, failure.error) for failure in run.failures).items():
        part = "" if count == planned[case] else f" ({count} of {planned[case]} units)"
        groups.setdefault((case.setting, error), []).append(f"{case.attack}{part}")
    sentences = [f"{series(attacks)} on {_named(case)}: {error}" for (case, error), attacks in groups.items()]
    return [*sentences, *faulty(run), *as_sentences(run.manifest.not_run), *left_out(run)]


def faulty(run: RunData) -> list[str]:
    """Attacks that gave results which are no perturbed inputs, a sentence per row."""
    return [
        f"{row.attack} on {_named(row.case)}: {counted(row.faulty, 'result')} not finite, or outside eps or "
        "the box; clean images were scored in their place, and for a positive verdict the attack counts as "
        "not run"
        for row in run.rows
        if row.faulty and row.measured
    ]


def left_out(run: RunData) -> list[str]:
    """The next step of each open verdict, a sentence: its price and the option that runs it."""
    return [
        f"{need_text(entry)} on {_named(entry.case)}: not run; about {entry.images:,} gradients; "
        f"{entry.option} runs it"
        for entry in run.manifest.outlook
        if isinstance(entry.case, Case)
    ]


def _named(case: Case) -> str:
    """``RCI (K = 128, N = 190) on erm under batch/unknown, linf, eps 0.3 (pixel)``."""
    subject = subject_text(case.subject, with_k=True)
    return f"{subject} under {case.threat}, {perturbation_text(case.perturbation)}"


def commands_of(run: RunData) -> list[str]:
    """The commands that made this folder, each once, in their order."""
    return list(dict.fromkeys(shell(list(i.command)) for i in run.manifest.invocations if i.command))


def hidden_gradients(manifest: RunManifest) -> list[str]:
    """Where each defence's gradient is lost, as its probe recorded it."""
    sentences = (
        f"{probe.subject.defence} on {probe.subject.checkpoint}: {'; '.join(causes)}. The relaxed- attacks "
        "replace this gradient."
        for probe in manifest.probes
        if (causes := _causes(probe))
    )
    return list(dict.fromkeys(sentences))


_LEAVES = "its answers leave torch, through numpy or other code, where gradients end"


def _causes(probe: ProbeRecord) -> list[str]:
    operators = [operator for operator in probe.hidden_by if _usable(operator)]
    names = {operator["operator"] for operator in operators}
    leaves = "numpy" in names or (not names and probe.figures.get("no_gradient") is True)
    skipped = {"numpy", "detach"} if leaves else set()  # an image is detached on its way to numpy
    causes = [hiding_text(operator) for operator in operators if operator["operator"] not in skipped]
    return [_LEAVES, *causes] if leaves else causes


def _usable(operator: dict[str, Any]) -> bool:
    scale = operator.get("scale")
    return (
        isinstance(operator.get("operator"), str)
        and type(operator.get("calls")) is int
        and (scale is None or type(scale) in (int, float))
    )


def limits_of(run: RunData) -> list[str]:
    """Limits of every run, then the parts of threat models that attacks on this one did not cover."""
    cases, tried = run.manifest.cases, _tried(run)
    parts = ["victim", "co-batch"] if any(case.batch_dependent for case in cases) else []
    parts += ["known"] if any(case.randomised for case in cases) else []
    untried = [
        f"Threat model not evaluated: {part} ({THREAT_PARTS[part]})." for part in parts if part not in tried
    ]
    return [*LIMITS, *untried]


def _tried(run: RunData) -> set[str]:
    """The parts of the threat models under which attacks ran: ``batch``, ``known``."""
    return {part for row in run.rows if row.attack not in CONTROLS for part in str(row.threat).split("/")}


def methods_of(run: RunData) -> dict[str, str]:
    """How the numbers of a run came about, but for each attack (`attacks_of`)."""
    manifest, data, tried = run.manifest, run.manifest.data, _tried(run)
    cases, calls, protocol = manifest.cases, manifest.invocations, manifest.protocol
    first = "the first, whose order the intervals for the population take to be random"
    subset = "drawn at random in each class" if manifest.identity.subset else first
    scored = {case.draws for case in cases if case.randomised and not case.case.threat.draw_known}
    normalised = any(row.perturbation.eps_space == "normalized" for row in run.rows)
    one_by_one = not all(case.randomised or case.batch_dependent for case in cases)
    facts = {
        "Data": f"{data.name} ({data.source}), sha256 {str(data.sha256)[:16]}",
        "Images": f"{data.examples} of {data.available}" + f", {subset}" * (data.examples != data.available),
        "Classes": f"{data.classes}",
        "Image shape": "x".join(map(str, data.image_shape or ())),
        **{f"Network {facts.name}": _network(facts) for facts in manifest.checkpoints},
        **{f"Threat model {part}": text for part, text in THREAT_PARTS.items() if part in tried},
        "Eps space normalized": _NORMALISED if normalised else "",
        "Batch size": _each(sorted({case.batch_size or 0 for case in cases})),
        "Seed": f"{manifest.identity.seed}",
        "Scoring draws": _each(sorted(scored)),
        "Selection draws": _each(call.count("selection_draws") for call in calls) if scored else "",
        "Draws known to the attacker": _each(sorted({c.draws for c in cases if c.case.threat.draw_known})),
        "Re-batched": _REBATCHED if any(case.batch_dependent for case in cases) else "",
        "Scoring": "the original networks in float32, even where attacks used a prepared copy",
        "Stopping": _STOPPING if one_by_one else "",
        "Protocol": f"{protocol.version}; rungs: {series(list(protocol.rungs))}" if protocol else "",
        "Versions": _each(_listed(call.versions) for call in calls),
        "Commit": _each((c.git.commit or "")[:12] + " with changes" * bool(c.git.dirty) for c in calls),
        "Device": _each(_listed(structs.asdict(call.machine)) for call in calls),
        "CPU threads": _each(call.resolved.threads for call in calls),
        "Date": _each(call.time[:10] for call in calls),
    }
    return {about: text for about, text in facts.items() if text}


_NORMALISED = "eps is multiplied by each channel's standard deviation"
_REBATCHED = (
    "the same perturbed inputs, scored in random batches of these images in one draw each. Figures as "
    "attacked are of the attacker's own batches. They have no interval, nor do figures with a known draw."
)
_STOPPING = (
    "where a defence is deterministic and answers inputs one by one, an attack stops on an example at its "
    "first misclassified iterate; elsewhere the last iterate counts."
)


def _network(facts: CheckpointFacts) -> str:
    """A checkpoint, and the copy that drove the attacks where one was prepared."""
    parts = (f"sha256 {facts.sha256[:16]}", facts.arch, f"normalisation: {_listed(facts.normalisation)}")
    return _each((*parts, facts.gradients.get("sentence")))


def _each(values: Iterable[object]) -> str:
    """The values that are there, each once."""
    return "; ".join(dict.fromkeys(map(str, filter(None, values))))


def _listed(facts: dict[str, Any]) -> str:
    """``mean [0.3056], std [0.3756]``: what a part of run.json holds, as it stands there."""
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None) or "unknown"


_SUBMITTED = (
    "the perturbed inputs that ATTACK made against SUBJECT (@CHECKPOINT where it is another one), submitted "
    "as they are. +bits=8 and +levels=L: pixels rounded to multiples of 1/255 and of 1/L within eps. "
    "ensemble: of several attacks the worst by the attacker's own draws."
)


def attacks_of(run: RunData) -> dict[str, str]:
    """Each attack with its settings, combined rows last."""
    steps: dict[str, dict[float, None]] = {}
    for row in sorted(run.rows, key=lambda row: row.attack in COMBINED):
        sizes = steps.setdefault(row.attack, {})
        sizes |= {} if row.step_size is None else {row.step_size: None}
    submitted = [name for name in steps if is_submitted(name)]
    own = [name for name in steps if name != CLEAN and name not in submitted]
    texts = {name: f"{attack_text(name, [*steps[name]])}." for name in own}
    return texts | ({"from:SUBJECT/ATTACK": _SUBMITTED} if submitted else {})
