"""report.md, report.html and shift.csv of one run of `csrobust paper shift`, with its figures."""

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from robustbench_coded.paper.shift import tables
from robustbench_coded.paper.shift.answers import ShiftRun, load_shift
from robustbench_coded.paper.shift.corruptions import CONSTANTS
from robustbench_coded.paper.shift.images import CLEAN
from robustbench_coded.paper.studies.plain_report import write_plain
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.render.sections import Block, Bullets, Commands, Figures, Legend, Section
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import counted, inference_text, subject_text
from robustbench_coded.runs.atomic import write_text


def figures_of(rows: Sequence[tables.Row], collection: str) -> list[style.Drawing]:
    """The figures of one collection of corrupted sets; none where there is a single set."""
    rows = [r for r in rows if r.collection == collection and r.figure == "accuracy"]
    with style.styled():
        return [
            drawn for draw in (_severities, _corruptions) if (drawn := draw(rows, collection)) is not None
        ]


def _severities(rows: Sequence[tables.Row], collection: str) -> style.Drawing | None:
    points = [(int(r.over.split()[1]), r) for r in rows if r.over.startswith("severity")]
    points += [(0, r) for r in rows if r.over == CLEAN]
    if len({severity for severity, _ in points}) < 2:
        return None
    inferences = tables.inferences_of(rows)
    checkpoints = list(dict.fromkeys(r.subject.checkpoint for r in rows))
    figure, axes = style.panels(len(inferences))
    for panel, inference in zip(axes, inferences, strict=True):
        for number, checkpoint in enumerate(checkpoints):
            subject = inference.of_checkpoint(checkpoint)
            curve = sorted((p for p in points if p[1].subject == subject), key=lambda p: p[0])
            if not curve:
                continue
            values = [100 * r.estimate.value for _, r in curve]
            bars = [
                [max(v - 100 * (r.estimate.low or 0), 0) for v, (_, r) in zip(values, curve)],
                [max(100 * (r.estimate.high or 0) - v, 0) for v, (_, r) in zip(values, curve)],
            ]
            panel.errorbar([s for s, _ in curve], values, yerr=bars, **style.style_of(number, checkpoint))
        panel.set_title(style.label(inference_text(inference, with_k=True)))
        panel.set_xlabel("severity (0: clean)")
        panel.set_xticks(sorted({s for s, _ in points}))
        style.percent_axis(panel)
    style.legend(figure, axes)
    caption = f"{collection}: mean over the corruptions at each severity, with 95% intervals."
    return style.drawing(figure, _name("severity", collection), "Accuracy over severity", caption)


def _corruptions(rows: Sequence[tables.Row], collection: str) -> style.Drawing | None:
    standard = tables.inferences_of(rows)[0]
    chosen = [r for r in rows if r.severity is None and r.over in CONSTANTS]
    chosen = [r for r in chosen if r.subject.inference == standard.inference]
    names = list(dict.fromkeys(r.over for r in chosen))
    if len(names) < 2:
        return None
    checkpoints = list(dict.fromkeys(r.subject.checkpoint for r in chosen))
    figure = Figure(figsize=(style.WIDTH, 0.26 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for number, checkpoint in enumerate(checkpoints):
        of = {r.over: r for r in chosen if r.subject.checkpoint == checkpoint}
        axes.plot(
            [100 * of[name].estimate.value for name in names],
            range(len(names)),
            linestyle="none",
            **style.style_of(number, checkpoint),
        )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy, %")
    style.legend(figure, [axes])
    axes.set_ylabel("")
    caption = f"{collection}: mean over severities, {inference_text(standard)}. Intervals are in the table."
    return style.drawing(figure, _name("corruptions", collection), "Accuracy by corruption", caption)


def _name(kind: str, collection: str) -> str:
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', collection.lower()).strip('-')}"


OURS = (
    "The corrupted sets are made by csrobust with the constants of the CIFAR version of Hendrycks and "
    "Dietterich (arXiv 1903.12261), not the published files. They differ from these in the random numbers, "
    "in the textures of frost (ours are synthetic, theirs are photographs), in the version of the JPEG "
    "library, and in details of other image libraries (docs/shift.md)."
)


def write_shift_report(path: Path) -> ShiftRun:
    """Writes shift.csv, report.md, report.html and figures/ of a folder of ``csrobust paper shift``.

    Raises:
        InputError: it is none, or shift.json is not usable.
    """
    run = load_shift(path)
    rows = tables.rows_of(run)
    write_text(path / "shift.csv", tables.rows_csv(rows))
    title = "Accuracy under covariate shift"
    write_plain(path, title, opening(run, rows), _sections(run, rows))
    return run


def opening(run: ShiftRun, rows: list[tables.Row]) -> list[str]:
    """Sentences on the measurement and on the result of each subject."""
    by_key = {(r.subject, r.collection, r.over, r.figure): r for r in rows}
    sentences = []
    for collection in run.collections:
        overs = [r.over for r in rows if r.collection == collection and r.over.startswith("mean")]
        natural = [facts.name for facts in run.sets(collection) if not facts.severity]
        over = tables.MEAN_19 if tables.MEAN_19 in overs else (overs or natural)[-1]
        parts = []
        for answers in run.answers:
            if answers.subject.defence != run.answers[0].subject.defence:
                continue
            row = by_key.get((answers.subject, collection, over, "accuracy"))
            if row is None:
                continue
            beside = by_key.get((answers.subject, collection, over, "difference"))
            less = f" ({tables.points_text(beside)} points beside the baseline)" if beside else ""
            parts.append(f"{answers.subject.checkpoint} {tables.row_text(row)}%{less}")
        how = inference_text(run.answers[0].subject) if run.answers else ""
        sentences.append(f"{collection}, {over}, {how[:1].lower() + how[1:]}: {'; '.join(parts)}.")
    corrupted = sum(1 for facts in run.facts.sets if facts.severity)
    what = f"{counted(len(run.facts.sets), 'set')}, {corrupted} of them corrupted"
    sentences.append(
        f"{what}, of {tables.sizes_text(run)} images each. Nothing was attacked: this "
        "says how accuracy changes under shift, and nothing of robustness against an adversary."
    )
    return sentences


def _sections(run: ShiftRun, rows: list[tables.Row]) -> list[Section]:
    blocks: list[Block] = [
        tables.means_table(rows),
        Legend(tables.MEANS_LEGEND),
    ]
    if any(row.paper is not None for row in rows):
        blocks.append(Legend(tables.BESIDE_PAPER))
    sections = [Section("means", "Means", tuple(blocks))]
    for number, collection in enumerate(run.collections):
        if not any(facts.severity for facts in run.sets(collection)):
            continue
        blocks = []
        figures = figures_of(rows, collection)
        if figures:
            blocks.append(Figures(tuple(figures)))
        for subject in tables.inferences_of(rows):
            table = tables.corruption_table(rows, collection, (subject.defence, subject.n))
            blocks += [Legend(f"{inference_text(subject, with_k=True)}:"), table]
        sections.append(Section(f"corruptions-{number}", collection, tuple(blocks)))
    measured: list[Block] = [Bullets(tuple(_methodology(run)))]
    command = run.manifest.last.command
    if command:
        measured.append(Commands((shell(list(command)),)))
    sections.append(Section("measured", "How this was measured", tuple(measured)))
    return sections


def _methodology(run: ShiftRun) -> list[str]:
    facts, baseline = run.facts, tables.baseline_of(run)
    body = []
    if any("(ours)" in part.collection for part in facts.sets):
        body.append(OURS)
    if facts.limit is not None:
        how = "a random part, stratified by class" if facts.subset else "the first images"
        body.append(f"Limited to {facts.limit} images a set (--limit): {how}, the same of every corruption.")
    body.append(
        f"Batches of K = {facts.k} images of one set, the same images in every corruption; the last batch is "
        "filled up with images that are not counted. Seed "
        f"{facts.seed}."
    )
    draws = sorted({right.shape[1] for answers in run.answers for right in answers.right.values()})
    if draws and draws[-1] > 1:
        body.append(f"Inference that is random: {draws[-1]} draws for every batch.")
    if baseline is None:
        body.append(f"No differences and no mCE: the standard inference of {facts.baseline} is not complete.")
    else:
        body.append(f"Baseline: standard inference of {facts.baseline}.")
    body += [
        f"{subject_text(subject)} is incomplete and left out; the same command completes it."
        for subject in run.missing
    ]
    body += [f"{c.name}: {c.arch}, sha256 {c.sha256[:16]}." for c in run.manifest.checkpoints]
    body += list(run.manifest.notes)
    versions = run.manifest.last.versions
    body.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return body
