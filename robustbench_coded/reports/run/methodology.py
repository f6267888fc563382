"""What stands under the tables: how the numbers were measured, which images they are about, and what they do
not prove.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from attacks.attack import LEVELS
from robustbench_coded.judge.checks import is_black_box
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.formatting import (
    attack_text,
    counted,
    is_submitted,
    kinds_text,
    parsed_attack,
    perturbation_text,
    series,
    threats_text,
)
from robustbench_coded.schema.manifest import CheckpointFacts, DataFacts, RunManifest
from robustbench_coded.schema.words import CLEAN, COMBINED, CONTROLS, ENSEMBLE, IntervalKind


class Fact(NamedTuple):
    """One fact and what it is about."""

    about: str
    text: str


# How examples were taken from a data set, and which images the intervals are about.
_CHOICES = {
    "all": ("all {taken} examples", "images drawn in the same way as these {taken}."),
    "drawn": (
        "a random {taken} of {all} examples, stratified by class",
        "all {all} examples of {name}, of which these are a random part, and to images like those.",
    ),
    "first": (
        "the first {taken} of {all} examples",
        "images drawn in the same way as the first {taken} of {name}; to the others only in a random order.",
    ),
}


def _choice(manifest: RunManifest) -> list[str]:
    data = manifest.data
    subset = "drawn" if manifest.identity.subset is not None else "first"
    texts = _CHOICES["all" if data.examples == data.available else subset]
    return [text.format(taken=data.examples, all=data.available, name=data.name) for text in texts]


_NOT_TRIED = "Attackers {} were not evaluated (no row under a {} threat model)."


def limits_of(run: Run) -> list[str]:
    """Limits of the tables, as far as it depends on what was run."""
    rows = [row for row in run.rows if row.attack not in CONTROLS]
    names = [name for row in rows if row.measured and (name := parsed_attack(row.attack)) is not None]
    blind = any(n.knows == "transfer" or is_black_box(n) for n in names)
    inputs = {row.threat.inputs for row in rows}
    alone = not any(case.batch_dependent for case in run.manifest.cases)
    unless = {
        _NOT_TRIED.format("who know the defence's draw", "known"): any(row.threat.draw_known for row in rows),
        _NOT_TRIED.format("who perturb a single input among clean ones", "victim"): alone
        or "victim" in inputs,
        _NOT_TRIED.format("who choose the co-batched inputs", "co-batch"): alone or "co-batch" in inputs,
        "No attack without gradients of the defence ran (transfer, Square).": blind,
    }
    return [
        "Accuracy under attack is an upper bound on robust accuracy: stronger attacks may lower it. "
        "This report contains no certified bounds.",
        "The intervals do not account for other attacks, other training runs or distribution shift.",
        *(limit for limit, not_so in unless.items() if not not_so),
    ]


def about(run: Run) -> str:
    """``640 images, 4 networks, protocol 1, 2026-11-28, commit 4949e8f6``: where the figures come from."""
    manifest = run.manifest
    last, protocol = manifest.last, manifest.protocol
    parts = [
        f"{max((row.examples for row in run.rows), default=0):,} images",
        counted(len(manifest.checkpoints), "network") if manifest.checkpoints else "",
        f"protocol {protocol.version}" if protocol else "",
        last.time[:10],
        f"commit {last.git.commit[:8]}" if last.git.commit else "",
    ]
    return ", ".join(filter(None, parts))


def methods_of(run: Run) -> list[Fact]:
    """How the numbers of a run came about, in twelve facts at most, but for each attack (`attacks_of`)."""
    manifest, rows = run.manifest, run.rows
    sizes = sorted({case.batch_size for case in manifest.cases if case.batch_size is not None})
    filled = "a last batch that is not full is filled with examples that are not scored there"
    again = any(result.random_batches for result in run.results)
    facts = {
        "Data": f"{_data(manifest)} The intervals apply to {_choice(manifest)[1]}",
        "Networks": _networks(manifest.checkpoints),
        "Recognition": " ".join(filter(None, map(_recognition, manifest.checkpoints))),
        "Gradients": _gradients(manifest),
        "Perturbations": " ".join(_perturbations(rows)),
        "Threat models": threats_text({row.threat for row in rows}),
        "Protocol": _protocol(manifest),
        "Batches": f"{_examples(rows)} K = {series(list(map(str, sizes)))}; {filled}.",
        "Draws": f"{_draws(manifest, rows)} Seed {manifest.identity.seed}.",
        "Intervals": _INTERVALS + (f" {_SCORED_AGAIN}" if again else ""),
        "Stopping": "" if all(c.randomised or c.batch_dependent for c in manifest.cases) else _STOPPING,
        "Versions": " ".join(dict.fromkeys(_versions(manifest))),
    }
    return [Fact(about, text) for about, text in facts.items() if text]


_INTERVALS = (
    "95%, in brackets; the unit is the random batch where answers depend on the batch, else the image. "
    f"{kinds_text(tuple(IntervalKind))} A figure from disjoint batches alone, or of an attack that knows the "
    "draw, has no interval."
)
_SCORED_AGAIN = (
    "Where an interval is for the evaluated images, the perturbed inputs were also scored in random batches "
    "of these images, in one draw each; accuracy, interval and number of images come from these batches. "
    "Where accuracy is over 3 points lower in the inputs' own batches, that accuracy stands beside it."
)
_STOPPING = (
    "where a defence is deterministic and answers inputs one by one, an attack stops on an example at its "
    "first misclassified iterate; elsewhere the last iterate counts."
)


def _protocol(manifest: RunManifest) -> str:
    """``protocol 1 (docs/protocol.md); rungs that ran: clean, quick, confirm.``"""
    protocol = manifest.protocol
    if protocol is None:
        return ""
    end = "; stopped before its end" if protocol.stopped else ""
    rungs = series(list(protocol.rungs)) or "none"
    return f"protocol {protocol.version} (docs/protocol.md); rungs that ran: {rungs}{end}."


def _data(manifest: RunManifest) -> str:
    data: DataFacts = manifest.data
    size = "x".join(map(str, data.image_shape)) if data.image_shape else "unknown"
    return (
        f"{data.name} ({data.source}), {_choice(manifest)[0]}, {data.classes} classes, images {size}, "
        f"sha256 {str(data.sha256)[:16]}."
    )


def _networks(checkpoints: Sequence[CheckpointFacts]) -> str:
    """Architectures and normalisations, each with the checkpoints that have it."""
    kinds: dict[str, list[str]] = {}
    for facts in checkpoints:
        choice = facts.normalisation
        figures = "mean {}, deviation {}".format(*(_numbers(choice.get(name)) for name in ("mean", "std")))
        known = f"{choice.get('source')}: {choice.get('name', 'custom')} ({figures})" if choice else "unknown"
        kind = f"{facts.arch}, normalisation {known}"
        kinds.setdefault(kind, []).append(f"{facts.name} (sha256 {facts.sha256[:16]})")
    return " ".join(f"{series(names)}: {kind}." for kind, names in kinds.items())


def _recognition(checkpoint: CheckpointFacts) -> str:
    """The evidence by which a network and its normalisation were recognised, where its file does not say."""
    sentence, by = checkpoint.recognition.get("sentence"), checkpoint.recognition.get("by")
    if not isinstance(sentence, str) or by == _SAID:
        return ""
    return f"{checkpoint.name}: {sentence[:1].upper()}{sentence[1:]}."


_SAID = ["its metadata", "stored"]


def _gradients(manifest: RunManifest) -> str:
    """What drove the attacks; what was scored is always the original model."""
    facts = {c.name: c.gradients for c in manifest.checkpoints if c.gradients.get("sentence")}
    prepared = {name: f for name, f in facts.items() if f.get("prepared") is True}
    texts = [f"{name}: attacked with {f['sentence']}." for name, f in facts.items() if name not in prepared]
    if prepared:
        kinds = dict.fromkeys(
            f"{f.get('folded')} batch-norms folded, {f.get('precision')}" for f in prepared.values()
        )
        agree = [
            min(float(f.get(part) or 0) for f in prepared.values())
            for part in ("same_predictions", "same_signs")
        ]
        texts.append(
            f"Attacks used prepared copies of {series(list(prepared))} ({series(list(kinds))}) with "
            f"{agree[0]:.1%} of the predictions and {agree[1]:.2%} of the gradients' signs of the originals."
        )
    return " ".join([*texts, "The original model was scored in float32."]) if texts else ""


def notes_of(manifest: RunManifest) -> tuple[str, ...]:
    """The notes of the run, without those that *Recognition* has."""
    recognised = {f"{c.name}: {c.recognition.get('sentence')}" for c in manifest.checkpoints}
    return tuple(note for note in manifest.notes if note not in recognised)


def _numbers(values: Any) -> str:
    if not isinstance(values, list):
        return "unknown"
    return ", ".join(f"{v:g}" if isinstance(v, int | float) else str(v) for v in values)


def _examples(rows: Sequence[SummaryRow]) -> str:
    counts = sorted({row.examples_planned for row in rows})
    text = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    missing = sum(1 for row in rows if row.measured and not row.done)
    return f"Attacks ran on {text} images." + (f" {missing} cases are incomplete." if missing else "")


_SPACES = {
    "pixel": "pixel: eps is measured on pixels in [0, 1]",
    "normalized": "normalized: eps is multiplied by each channel's own standard deviation",
}


def _perturbations(rows: Sequence[SummaryRow]) -> Iterator[str]:
    budgets = dict.fromkeys(row.perturbation for row in rows if row.attack != CLEAN)
    spaces = {perturbation.eps_space for perturbation in budgets}
    if budgets:
        texts = "; ".join(text for space, text in _SPACES.items() if space in spaces)
        yield f"{series(list(map(perturbation_text, budgets)))}. {texts}. Perturbed images stay in [0, 1]."


_SUBMITTED = {
    "": Fact(
        "from:SUBJECT/ATTACK",
        "the perturbed inputs that ATTACK made against SUBJECT (@CHECKPOINT where it is another one), "
        "submitted as they are: forward passes alone. +bits=8: pixels rounded to multiples of 1/255 within "
        "eps. ensemble: of several attacks the worst by the attacker's own draws.",
    ),
    f"+{LEVELS}=": Fact("+levels=L", "pixels rounded to multiples of 1/L within eps, as in the data."),
}


def attacks_of(run: Run) -> Iterator[Fact]:
    """Each attack with its settings."""
    groups: dict[str, list[SummaryRow]] = defaultdict(list)
    for row in run.rows:
        groups[row.attack].append(row)
    submitted = [attack for attack in groups if is_submitted(attack)]
    for attack, group in sorted(groups.items(), key=lambda entry: entry[0] in COMBINED):
        if attack == CLEAN or attack in submitted:
            continue
        steps = list(dict.fromkeys(row.step_size for row in group if row.step_size is not None))
        yield Fact(attack, f"{attack_text(attack, steps, group[0].perturbation.norm)}.")
    for mark, fact in _SUBMITTED.items():
        if any(mark in attack for attack in submitted):
            yield fact


def _draws(manifest: RunManifest, rows: Sequence[SummaryRow]) -> str:
    cases = manifest.cases
    chosen = {invocation.count("selection_draws") for invocation in manifest.invocations} - {None}
    counts = {
        "accuracies are means over {} draws made after the attack": {
            case.draws for case in cases if case.randomised and not case.case.threat.draw_known
        },
        "attacks are chosen on {} other draws": chosen if any(row.attack == ENSEMBLE for row in rows) else (),
        "where the draw is known, {} separate attacks are each scored on the draw they know": {
            case.draws for case in cases if case.case.threat.draw_known
        },
    }
    if not any(case.randomised or case.case.threat.draw_known for case in cases):
        return "every defence here is deterministic: it has one answer."
    parts = (text.format(series(list(map(str, sorted(draws))))) for text, draws in counts.items() if draws)  # type: ignore[type-var]
    return f"{'; '.join(parts)}."


def _versions(manifest: RunManifest) -> Iterator[str]:
    for invocation in manifest.invocations:
        git, machine, threads = invocation.git, invocation.machine, invocation.resolved.threads
        parts = [", ".join(f"{name} {version}" for name, version in invocation.versions.items())]
        parts += [f"commit {git.commit[:12]}{' with changes' if git.dirty else ''}"] if git.commit else []
        gpu = f" ({machine.gpu})" if machine.gpu else ""
        parts.append(f"device {machine.device}{gpu} on {machine.system} {machine.processor}")
        yield "; ".join(parts) + (f", CPU threads: {threads}." if threads else ".")
