"""What stands under the tables: how the numbers were measured, which images they are about, and what they do
not prove.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from robustbench_coded.judge.checks import is_black_box
from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.attack_names import attack_text
from robustbench_coded.reports.text.formatting import (
    is_submitted,
    parsed_attack,
    perturbation_text,
    series,
    threats_text,
)
from robustbench_coded.schema.manifest import CheckpointFacts, DataFacts, RunManifest
from robustbench_coded.schema.words import CLEAN, COMBINED, CONTROLS


class Fact(NamedTuple):
    """One fact and what it is about."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


# How examples were taken from a data set, and which images the intervals are about.
_CHOICES = {
    "all": "all {taken} images; the intervals are about images drawn in the same way",
    "drawn": "a random {taken} of {all} images, stratified by class; the intervals are about all of them",
    "first": "the first {taken} of {all} images; the intervals are about the others only in a random order",
}


def _choice(manifest: RunManifest) -> str:
    data = manifest.data
    subset = "drawn" if manifest.identity.subset is not None else "first"
    chosen = "all" if data.examples == data.available else subset
    return _CHOICES[chosen].format(taken=data.examples, all=data.available)


def limits_of(run: RunData) -> list[str]:
    """Limits of the tables, as far as it depends on what was run."""
    rows = [row for row in run.rows if row.attack not in CONTROLS]
    names = [name for row in rows if row.measured and (name := parsed_attack(row.attack)) is not None]
    tried = {part for row in rows for part in (row.threat.inputs, row.threat.randomness)}
    if not any(case.batch_dependent for case in run.manifest.cases):
        tried |= {"victim", "co-batch"}
    attackers = {
        "known": "who know the defence's draw",
        "victim": "who perturb a single input among clean ones",
        "co-batch": "who choose the co-batched inputs",
    }
    blind = any(name.knows == "transfer" or is_black_box(name) for name in names)
    return [
        "Accuracy under attack is an upper bound on robust accuracy: stronger attacks may lower it. "
        "This report contains no certified bounds.",
        "The intervals do not account for other attacks, other training runs or distribution shift.",
        *(
            f"Attackers {who} were not evaluated (no row under a {part} threat model)."
            for part, who in attackers.items()
            if part not in tried
        ),
        *([] if blind else ["No attack without gradients of the defence ran (transfer, Square)."]),
    ]


def methods_of(run: RunData) -> list[Fact]:
    """How the numbers of a run came about, but for each attack (`attacks_of`)."""
    manifest, rows, protocol = run.manifest, run.rows, run.manifest.protocol
    sizes = sorted({case.batch_size for case in manifest.cases if case.batch_size is not None})
    one_by_one = not all(case.randomised or case.batch_dependent for case in manifest.cases)
    facts = {
        "Data": _data(manifest),
        "Networks": _networks(manifest.checkpoints),
        "Gradients": _gradients(manifest),
        "Perturbations": _perturbations(rows),
        "Threat models": threats_text({row.threat for row in rows}),
        "Protocol": f"{protocol.version}; rungs: {series(list(protocol.rungs))}" if protocol else "",
        "Batches": f"K = {series(list(map(str, sizes)))}; the last batch is filled with others.",
        "Draws": f"{_draws(manifest)}. Seed {manifest.identity.seed}.",
        "Intervals": _INTERVALS,
        "Stopping": _STOPPING if one_by_one else "",
        "Versions": " ".join(dict.fromkeys(_versions(manifest))),
    }
    return [Fact(about, text) for about, text in facts.items() if text]


_INTERVALS = (
    "95%, in brackets; for the population where images are answered one by one. Where a batch is answered "
    "together, a figure as attacked is of the batches that the attacker made and has no interval; "
    "re-batched, the same inputs are scored in random batches of these images, in one draw each, with an "
    "interval for the evaluated images (†). An attack that knows the draw has no interval."
)
_STOPPING = (
    "where a defence is deterministic and answers inputs one by one, an attack stops on an example at its "
    "first misclassified iterate; elsewhere the last iterate counts."
)


def _data(manifest: RunManifest) -> str:
    data: DataFacts = manifest.data
    size = "x".join(map(str, data.image_shape)) if data.image_shape else "unknown"
    return (
        f"{data.name} ({data.source}): {_choice(manifest)}; {data.classes} classes, images {size}, "
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


def _gradients(manifest: RunManifest) -> str:
    """What drove the attacks; what was scored is always the original model."""
    used = {c.name: sentence for c in manifest.checkpoints if (sentence := c.gradients.get("sentence"))}
    texts = [f"{name}: {sentence}." for name, sentence in used.items()]
    return " ".join([*texts, "The original model was scored in float32."]) if texts else ""


def _numbers(values: Any) -> str:
    if not isinstance(values, list):
        return "unknown"
    return ", ".join(f"{v:g}" if isinstance(v, int | float) else str(v) for v in values)


def _perturbations(rows: Sequence[SummaryRow]) -> str:
    budgets = dict.fromkeys(row.perturbation for row in rows if row.attack != CLEAN)
    normalised = any(budget.eps_space != "pixel" for budget in budgets)
    space = "; normalized: eps times each channel's own standard deviation" if normalised else ""
    return f"{series(list(map(perturbation_text, budgets)))}{space}; perturbed images stay in [0, 1]"


_SUBMITTED = Fact(
    "from:SUBJECT/ATTACK",
    "the perturbed inputs that ATTACK made against SUBJECT (@CHECKPOINT where it is another one), submitted "
    "as they are. +bits=8 and +levels=L: pixels rounded to multiples of 1/255 and of 1/L within eps. "
    "ensemble: of several attacks the worst by the attacker's own draws.",
)


def attacks_of(run: RunData) -> Iterator[Fact]:
    """Each attack with its settings."""
    groups: dict[str, list[SummaryRow]] = defaultdict(list)
    for row in run.rows:
        groups[row.attack].append(row)
    submitted = [attack for attack in groups if is_submitted(attack)]
    for attack, group in sorted(groups.items(), key=lambda entry: entry[0] in COMBINED):
        if attack == CLEAN or attack in submitted:
            continue
        steps = list(dict.fromkeys(row.step_size for row in group if row.step_size is not None))
        yield Fact(attack, f"{attack_text(attack, steps)}.")
    if submitted:
        yield _SUBMITTED


def _draws(manifest: RunManifest) -> str:
    """How many draws score, how many choose, and how many attacks know theirs."""
    known = {case.draws for case in manifest.cases if case.case.threat.draw_known}
    scoring = {case.draws for case in manifest.cases if case.randomised and not case.case.threat.draw_known}
    selection = {call.count("selection_draws") for call in manifest.invocations} - {None}
    counts = {
        "{} scoring draws, made after the attack": scoring,
        "{} other draws on which attacks are chosen": selection if scoring else (),
        "where the draw is known, {} separate attacks, each scored on the draw it knows": known,
    }
    texts = [text.format(series(sorted(map(str, draws)))) for text, draws in counts.items() if draws]
    return "; ".join(texts) or "none: every defence here is deterministic"


def _versions(manifest: RunManifest) -> Iterator[str]:
    for invocation in manifest.invocations:
        git, machine, threads = invocation.git, invocation.machine, invocation.resolved.threads
        parts = [", ".join(f"{name} {version}" for name, version in invocation.versions.items())]
        parts += [f"commit {git.commit[:12]}{' with changes' if git.dirty else ''}"] if git.commit else []
        gpu = f" ({machine.gpu})" if machine.gpu else ""
        parts.append(f"device {machine.device}{gpu} on {machine.system} {machine.processor}")
        yield "; ".join(parts) + (f", CPU threads: {threads}." if threads else ".")
