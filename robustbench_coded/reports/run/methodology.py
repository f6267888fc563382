"""What stands under the tables: how the numbers were measured, which images they are about, what they do not
prove, and the terms that the tables use (docs/glossary.md has all of them).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from attacks.attack_name import LEVELS, SLOTS
from robustbench_coded.extensions import load
from robustbench_coded.judge.judge import MARGIN
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.formatting import (
    attack_text,
    is_submitted,
    parsed_attack,
    percent,
    perturbation_text,
    series,
    subject_text,
    threat_text,
)
from robustbench_coded.schema.case import ThreatModel
from robustbench_coded.schema.manifest import CheckpointFacts, RunManifest
from robustbench_coded.schema.words import CLEAN, COMBINED, CONTROLS, ENSEMBLE, VerdictName

MIXES = {
    "balanced": "dealt to batches so that each has its share of every class",
    "shuffled": "in random order",
    "data": "in the order of the data",
}


def population_of(manifest: RunManifest) -> str:
    """What the intervals of a run are about, in one sentence."""
    data = manifest.data
    if data.examples == data.available:
        return f"the intervals apply to images drawn in the same way as these {data.examples}."
    if manifest.identity.subset is not None:
        return (
            f"the intervals apply to all {data.available} examples of {data.name}, of which these are a "
            "random part of every class, and to images drawn as those were."
        )
    return (
        f"the intervals apply to images drawn in the same way as the first {data.examples} of {data.name}, "
        f"and to the other {(data.available or 0) - (data.examples or 0)} only if their order is random."
    )


def scored_again(run: Run) -> str:
    """What was scored in random batches, too; empty where nothing was."""
    scored = [
        f"{row.case.attack} on {subject_text(row.case.subject, with_k=True)} "
        f"({row.random_batches[0].batches})"
        for row in run.results
        if row.random_batches and row.case.attack not in COMBINED
    ]
    if not scored:
        return ""
    return (
        "the perturbed inputs of these attacks were also scored in random batches of these images, in one "
        f"draw each: {'; '.join(scored)}. Their intervals, and the upper ends of ensembles that contain "
        "them, are about these images in random batches; those for other images stand beside them."
    )


_SUBMITTED = (
    "from:SUBJECT/ATTACK: the perturbed inputs that ATTACK made against SUBJECT (@CHECKPOINT where it is "
    "another one), submitted as they are: forward passes alone. +shrunk: scaled to that part of the length. "
    "+bits=8: pixels rounded to multiples of 1/255 within eps. ensemble: of several attacks the worst by the "
    "attacker's own draws."
)
LAST_BATCH = {
    "pad": "a last batch that is not full is filled with examples that are not scored there",
    "shrink": "a last batch that is not full stays smaller, and N with it",
    "drop": "a last batch that is not full is left out",
}


class Fact(NamedTuple):
    """One fact and what it is about."""

    about: str
    text: str


def methodology_of(run: Run, *, paper: bool) -> list[Fact]:
    """Everything that decides the numbers of a run.

    Args:
        paper: whether the tables show numbers of the paper.
    """
    return list(_facts(run, run.rows, paper))


def limits_of(run: Run) -> list[str]:
    """What the tables do not prove, as far as it depends on what was run."""
    rows = run.rows
    threats = {row.threat for row in rows if row.attack not in CONTROLS}
    attacks = {row.attack for row in rows if row.measured and row.attack not in CONTROLS}
    bounds = "Nothing here is a certificate."
    if run.certified:
        bounds = "Only certified accuracies are lower bounds."
    said = [
        "An accuracy under attack is an upper bound: it holds for the attacks in the table, and another "
        f"attack may leave less. {bounds}",
        "The intervals do not cover other attacks, other training runs or shifted data.",
    ]
    if not any(threat.draw_known for threat in threats):
        said.append(
            "No attacker who knows the defence's draw was tried: there is no row under a known threat model."
        )
    if any(row.batch_dependent for row in run.manifest.cases):
        for inputs, words in (
            ("victim", "one victim among clean inputs"),
            ("co-batch", "chosen co-batched inputs"),
        ):
            if not any(threat.inputs == inputs for threat in threats):
                said.append(
                    f"No attacker with {words} was tried: there is no row under a {inputs} threat model."
                )
    parsed = [name for attack in attacks if (name := parsed_attack(attack)) is not None]
    parsed = [name for name in parsed if not name.is_submitted]
    if not any(name.estimator == "transfer" or name.asks_answers_alone for name in parsed):
        said.append("No attack without gradients of the defence was tried (transfer, Square, SPSA).")
    return said


def _facts(run: Run, rows: Sequence[SummaryRow], paper: bool) -> Iterator[Fact]:
    manifest = run.manifest
    yield Fact("Data", _data(manifest))
    for checkpoint in manifest.checkpoints:
        yield Fact("Checkpoint", _checkpoint(checkpoint))
        if evidence := _recognition(checkpoint) + _gradients(checkpoint):
            yield Fact("Recognition", f"{checkpoint.name}:{evidence}")
    yield Fact("Examples", _examples(rows))
    perturbations = dict.fromkeys(row.perturbation for row in rows if row.attack != CLEAN)
    if perturbations:
        yield Fact(
            "Budget",
            series([perturbation_text(b) for b in perturbations])
            + _spaces({b.eps_space for b in perturbations}),
        )
    yield from _attacks(rows)
    yield from _cost_limits(manifest)
    yield Fact("Draws", _draws(manifest, rows))
    yield Fact(
        "Intervals",
        "95%, in brackets; the unit is the batch for a defence whose answers depend on the batch, "
        "else the example (victims: the victim).",
    )
    yield Fact("Population", population_of(manifest))
    if again := scored_again(run):
        yield Fact("Random batches", again)
    yield Fact("Seed", f"{manifest.identity.seed}; every random number comes from a stream named by it.")
    sizes = sorted({row.batch_size for row in manifest.cases if row.batch_size is not None})
    rule = str(manifest.identity.last_batch)
    yield Fact(
        "Batches",
        f"K = {series([str(k) for k in sizes])}; {rule}: {LAST_BATCH.get(rule, 'an unknown rule')}.",
    )
    if any(invocation.options.get("drop") for invocation in manifest.invocations):
        yield Fact(
            "Stopping",
            "where a defence is deterministic and answers inputs one by one, an attack stops on an "
            "example at its first misclassified iterate (--no-drop turns that off); elsewhere the last "
            "iterate counts.",
        )
    yield from _machines(manifest)
    if paper:
        yield Fact("Paper", load("printed", "explained")())


def _data(manifest: RunManifest) -> str:
    data = manifest.data
    size = "x".join(map(str, data.image_shape)) if data.image_shape else "unknown"
    if manifest.identity.subset is not None:
        taken = f"a random {data.examples} of {data.available} examples, stratified by class"
    elif data.examples == data.available:
        taken = f"all {data.examples} examples"
    else:
        taken = f"the first {data.examples} of {data.available} examples"
    if mix := manifest.identity.class_mix:
        taken += f", {MIXES[mix]}"
    return (
        f"{data.name} ({data.source}), {taken}, "
        f"{data.classes} classes, images {size}, sha256 {str(data.sha256)[:16]}."
    )


def _checkpoint(checkpoint: CheckpointFacts) -> str:
    said = f"{checkpoint.name}: {checkpoint.arch}, sha256 {checkpoint.sha256[:16]}; normalisation "
    choice = checkpoint.normalisation
    if not choice:
        return said + "unknown."
    figures = "mean {}, deviation {}".format(*(_numbers(choice.get(name)) for name in ("mean", "std")))
    return f"{said}{choice.get('source')}: {choice.get('name', 'custom')} ({figures})."


def _recognition(checkpoint: CheckpointFacts) -> str:
    """By which evidence the network and its normalisation were recognised."""
    recognised = checkpoint.recognition.get("sentence")
    return f" {recognised[:1].upper()}{recognised[1:]}." if isinstance(recognised, str) else ""


def _gradients(checkpoint: CheckpointFacts) -> str:
    """What drove the attacks; what was scored is always the original model."""
    sentence = checkpoint.gradients.get("sentence")
    return f" Scored in float32 by the original model; attacked with {sentence}." if sentence else ""


def _numbers(values: Any) -> str:
    if not isinstance(values, list):
        return "unknown"
    return ", ".join(f"{v:g}" if isinstance(v, int | float) else str(v) for v in values)


def _examples(rows: Sequence[SummaryRow]) -> str:
    counts: dict[int, set[ThreatModel]] = defaultdict(set)
    for row in rows:
        counts[row.examples_planned].add(row.threat)
    said = "; ".join(
        f"{count} under {series(sorted(map(str, threats)))}" for count, threats in counts.items()
    )
    missing = sum(1 for row in rows if row.measured and not row.done)
    return f"{said}." + (f" {missing} rows are incomplete." if missing else "")


def _spaces(spaces: set[str]) -> str:
    said = []
    if "pixel" in spaces:
        said.append("pixel: eps is measured on pixels in [0, 1]")
    if "normalized" in spaces:
        said.append("normalized: eps is multiplied by each channel's own standard deviation")
    return ". " + "; ".join(said) + ". Perturbed images stay in [0, 1]."


def _attacks(rows: Sequence[SummaryRow]) -> Iterator[Fact]:
    sizes: dict[str, dict[float, None]] = {}
    costs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        sizes.setdefault(row.attack, {})
        if row.step_size is not None:
            sizes[row.attack][row.step_size] = None
        if row.measured and row.forwards is not None and row.backwards is not None:
            costs[row.attack].append((row.forwards, row.backwards))
    for attack, steps in sorted(sizes.items(), key=lambda entry: entry[0] in COMBINED):
        if attack == CLEAN or is_submitted(attack):
            continue
        said = f"{attack}: {attack_text(attack, list(steps), rows[0].perturbation.norm)}"
        spent = costs.get(attack, [])
        if any(forwards or backwards for forwards, backwards in spent):
            forwards, backwards = (_range([cost[i] for cost in spent]) for i in (0, 1))
            said += f"; per scored example {forwards} images forward and {backwards} backward"
        yield Fact("Attack", said + ".")
    if any(is_submitted(attack) for attack in sizes):
        yield Fact("Attack", _SUBMITTED)
    if any(is_submitted(attack) and f"+{LEVELS}=" in attack for attack in sizes):
        yield Fact("Attack", "+levels=L: pixels rounded to multiples of 1/L within eps, as in the data.")
    if any(is_submitted(attack) and f"+{SLOTS}=" in attack for attack in sizes):
        yield Fact("Attack", "+slots=F: of each batch this share is perturbed, the other inputs are clean.")


def _cost_limits(manifest: RunManifest) -> Iterator[Fact]:
    """How much each attack could cost, where that was limited."""
    limits = {row.query_budget for row in manifest.cases if row.query_budget is not None}
    if not limits:
        return
    some = [row for row in manifest.cases if row.case.attack not in CONTROLS and row.query_budget is None]
    yield Fact(
        "Cost",
        f"every attack{' but some' if some else ''}, including those of other packages, was stopped before "
        f"it would have cost more than {series([str(limit) for limit in sorted(limits)])} images forwarded "
        "and differentiated for each scored example, counted where the defence is asked, coded and "
        "co-batched images included; where the draw is known, that is for each separate attack.",
    )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if high - low < 0.05 else f"{low:.4g} to {high:.4g}"


def _draws(manifest: RunManifest, rows: Sequence[SummaryRow]) -> str:
    known = {row.draws for row in manifest.cases if row.case.threat.draw_known}
    random = {row.draws for row in manifest.cases if row.randomised and not row.case.threat.draw_known}
    if not random and not known:
        return "every defence here is deterministic: it has one answer."
    said = [
        f"accuracies are means over {series([str(d) for d in sorted(random)])} draws made after the attack"
    ]
    counts = {invocation.count("selection_draws") for invocation in manifest.invocations}
    selection = sorted(count for count in counts if count is not None)
    if selection and any(row.attack == ENSEMBLE for row in rows):
        said.append(
            f"attacks are chosen on {series([str(d) for d in sorted(selection, key=str)])} other draws"
        )
    if known:
        made = series([str(d) for d in sorted(known)])
        said.append(f"where the draw is known, {made} separate attacks are each scored on the draw they know")
    return "; ".join(said) + "."


def _machines(manifest: RunManifest) -> Iterator[Fact]:
    seen: dict[str, None] = {}
    for invocation in manifest.invocations:
        text = ", ".join(f"{name} {version}" for name, version in invocation.versions.items())
        if invocation.git.commit:
            dirty = " with changes" if invocation.git.dirty else ""
            text += f"; commit {invocation.git.commit[:12]}{dirty}"
        machine = invocation.machine
        text += f"; device {machine.device}" + (f" ({machine.gpu})" if machine.gpu else "")
        text += f" on {machine.system} {machine.processor}"
        threads = invocation.resolved.threads
        seen[text + (f", CPU threads: {threads}" if threads else "")] = None
    for text in seen:
        yield Fact("Versions", f"{text}.")


GLOSSARY = "docs/glossary.md"
_EXPLAINED = {
    VerdictName.WORSE_THAN_BASE: "the upper end of the gain is below 0.",
    VerdictName.NO_GAIN: "the upper end of the gain is below the margin.",
    VerdictName.BROKEN: "the upper end of the accuracy is at most a twentieth of the clean accuracy above "
    "what uninformative inputs leave.",
    VerdictName.NO_FAILURE_FOUND: "the lower end of the gain is above the margin (without a bare network "
    "to compare with: that of the accuracy is above what counts as broken), and every check passed. An upper "
    "bound, never a proof.",
    VerdictName.NOT_SETTLED: "none of these can be said yet.",
    VerdictName.CLAIM_REFUTED: "the upper end of the claimed accuracy is below the claim.",
}


def terms_of(run: Run) -> Iterator[Fact]:
    """Terms of the tables, then the threat models and verdicts that the run has."""
    rows = run.manifest.cases
    yield Fact("Accuracy", "the share of right answers, in percent; the mean over images and draws.")
    yield Fact(
        "Interval",
        "in brackets; each end errs with probability 2.5%. It is about other images like these. Where inputs "
        "are answered together and were scored in random batches, it is about these images in any batches, "
        "and 'Other images' stands beside it.",
    )
    if any(row.case.subject.k is not None for row in rows):
        yield Fact("K, N", "K inputs are answered together; coded inference answers N mixtures of them.")
    if any(row.randomised for row in rows):
        yield Fact(
            "Draw", "one sample of a defence's random numbers; figures use draws made after the attack."
        )
    yield Fact(
        "Ensemble",
        "all attacks together: the attack that is lowest for each image (for each batch, where inputs are "
        "answered together), chosen on other draws than it is scored on. It decides the verdict.",
    )
    yield Fact(
        "Resubmitted", "the lowest of all perturbed inputs that were made elsewhere (from:SUBJECT/ATTACK)."
    )
    yield Fact("Gain", "accuracy under the ensemble, less that of the bare network under its own ensemble.")
    yield Fact("Clean accuracy given up", "clean accuracy of the bare network, less that of the defence.")
    for threat in dict.fromkeys(row.threat for row in run.rows):
        yield Fact("Threat model", f"{threat}: {threat_text(threat)}.")
    margin = run.manifest.last.margin
    for verdict in dict.fromkeys(judgement.verdict.name for judgement in run.judgements):
        yield Fact("Verdict", f"{verdict}: {_EXPLAINED[verdict]}")
    yield Fact(
        "Margin", f"the smallest gain that counts: {percent(MARGIN if margin is None else margin)} points."
    )
    yield Fact("All terms", f"{GLOSSARY} of csrobust.")
