"""report.md, report.html and shift.csv of one run of `csrobust paper shift`, with its tables and figures."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from robustbench_coded.paper.shift.corruptions import CONSTANTS
from robustbench_coded.paper.shift.estimates import (
    CLEAN,
    Row,
    ShiftRun,
    baseline_of,
    load_shift,
    rows_of,
    table5,
)
from robustbench_coded.paper.studies.over_seeds import csv_cell
from robustbench_coded.paper.studies.plain_report import write_plain
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.render.sections import Block, Bullets, Commands, Figures, Legend, Section
from robustbench_coded.reports.text.escape import csv_document, shell
from robustbench_coded.reports.text.formatting import (
    Columns,
    TextTable,
    counted,
    inference_text,
    interval,
    percent,
    subject_text,
)
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.words import IntervalKind

MEANS_LEGEND = (
    "Accuracies in percent with 95% intervals. Less the baseline: percentage points, paired over the same "
    "examples, and over whole batches as soon as an inference answers in batches. mCE: mean corruption error "
    "(arXiv 1903.12261), errors divided by those of the baseline's standard inference, times 100."
)
BESIDE_PAPER = (
    f"Paper: Table 5 of arXiv 2510.00253, mean over seeds, a {table5()['network']} trained for "
    "350 epochs; its CIFAR-10-C is the published one. Another network and another training: compare the "
    "order, not the values."
)
CSV_COLUMNS = (
    "checkpoint", "defence", "k", "n", "collection", "over", "severity", "figure", "value", "ci_low",
    "ci_high", "examples", "sets", "draws", "paper",
)  # fmt: skip


def rows_csv(rows: Sequence[Row]) -> str:
    """shift.csv: accuracies, differences and intervals as fractions."""
    lines = ([csv_cell(data[name]) for name in CSV_COLUMNS] for data in (row.as_data() for row in rows))
    return csv_document(CSV_COLUMNS, lines)


def row_text(row: Row | None, *, sign: str = "") -> str:
    """``71.2 [69.8, 72.6]``; nothing where there is no row."""
    if row is None:
        return ""
    ends = interval(row.estimate.low, row.estimate.high, IntervalKind.POPULATION)
    return f"{100 * row.estimate.value:{sign}.1f} {ends}".rstrip()


def beside(rows: Sequence[Row]) -> Callable[[Row, str], Row | None]:
    """Finds another figure of the same subject over the same sets."""
    known = {(row.subject, row.collection, row.over, row.severity, row.figure): row for row in rows}
    return lambda row, figure: known.get((row.subject, row.collection, row.over, row.severity, figure))


def means_table(rows: Sequence[Row]) -> TextTable:
    """A line for each subject and each mean, or natural set: accuracy, difference, mean corruption error."""
    with_k = len({row.subject.k for row in rows if row.subject.k is not None}) > 1
    other = beside(rows)
    means = [r for r in rows if r.figure == "accuracy" and (r.severity == 0 or r.over.startswith("mean"))]
    order = list(dict.fromkeys((row.collection, row.over) for row in means))
    means.sort(key=lambda row: order.index((row.collection, row.over)))  # subjects as they come
    figures: Columns[Row] = {
        "Accuracy": row_text,
        "Less the baseline": lambda row: row_text(other(row, "difference"), sign="+z"),
        "mCE": lambda row: row_text(other(row, "corruption_error")),
        "Paper": lambda row: "" if row.paper is None else percent(row.paper),
    }
    columns: Columns[Row] = {
        "Images": lambda row: row.collection,
        "Over": lambda row: row.over,
        "Network": lambda row: row.subject.checkpoint,
        "Defence": lambda row: inference_text(row.subject, with_k=with_k),
        **figures,
    }
    return TextTable.of(means, columns, figures).without_empty(("mCE", "Paper"))


def corruption_table(rows: Sequence[Row], collection: str, inference: Subject) -> TextTable:
    """Corruptions and severities down, checkpoints across, under one inference."""
    cells = {
        (r.over, r.subject.checkpoint): row_text(r)
        for r in rows
        if (r.collection, r.figure, r.subject.defence, r.subject.n)
        == (collection, "accuracy", inference.defence, inference.n)
        and (r.severity is None or r.over == CLEAN)
    }
    across = list(dict.fromkeys(checkpoint for _, checkpoint in cells))
    down = dict.fromkeys(over for over, _ in cells)
    lines = tuple((over, *(cells.get((over, column), "") for column in across)) for over in down)
    return TextTable(("Over", *across), lines, frozenset(across))


def inferences_of(rows: Sequence[Row]) -> list[Subject]:
    """One subject for each inference, in their order."""
    return list({(r.subject.defence, r.subject.n): r.subject for r in reversed(rows)}.values())[::-1]


def figures_of(rows: Sequence[Row], collection: str) -> tuple[style.Drawing, ...]:
    """The figures of one collection of corrupted sets; none where there is a single set."""
    rows = [r for r in rows if r.collection == collection and r.figure == "accuracy"]
    with style.styled():
        drawn = [draw(rows, collection) for draw in (_severities, _corruptions)]
    return tuple(figure for figure in drawn if figure is not None)


def _severities(rows: Sequence[Row], collection: str) -> style.Drawing | None:
    points = [(int(r.over.split()[1]), r) for r in rows if r.over.startswith("severity")]
    points += [(0, r) for r in rows if r.over == CLEAN]
    if len({severity for severity, _ in points}) < 2:
        return None
    inferences = inferences_of(rows)
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


def _corruptions(rows: Sequence[Row], collection: str) -> style.Drawing | None:
    standard = inferences_of(rows)[0]
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
    rows = rows_of(run)
    write_text(path / "shift.csv", rows_csv(rows))
    title = "Accuracy under covariate shift"
    write_plain(path, title, opening(run, rows), _sections(run, rows))
    return run


def opening(run: ShiftRun, rows: list[Row]) -> list[str]:
    """Sentences on the measurement and on the result of each subject."""
    other = beside(rows)
    sentences = []
    for collection in run.collections:
        here = [r for r in rows if r.collection == collection and r.figure == "accuracy"]
        overs = [r.over for r in here if r.over.startswith("mean")]
        natural = [facts.name for facts in run.sets(collection) if not facts.severity]
        over = "mean of 19" if "mean of 19" in overs else (overs or natural)[-1]
        parts = []
        for row in here:
            if row.over == over and row.subject.defence == run.answers[0].subject.defence:
                less = other(row, "difference")
                points = f" ({row_text(less, sign='+z')} points beside the baseline)" if less else ""
                parts.append(f"{row.subject.checkpoint} {row_text(row)}%{points}")
        how = inference_text(run.answers[0].subject) if run.answers else ""
        sentences.append(f"{collection}, {over}, {how[:1].lower() + how[1:]}: {'; '.join(parts)}.")
    corrupted = sum(1 for facts in run.facts.sets if facts.severity)
    what = f"{counted(len(run.facts.sets), 'set')}, {corrupted} of them corrupted"
    sizes = " or ".join(f"{size:,}" for size in sorted({facts.examples for facts in run.facts.sets}))
    sentences.append(
        f"{what}, of {sizes} images each. Nothing was attacked: this "
        "says how accuracy changes under shift, and nothing of robustness against an adversary."
    )
    return sentences


def _sections(run: ShiftRun, rows: list[Row]) -> list[Section]:
    blocks: list[Block] = [
        means_table(rows),
        Legend(MEANS_LEGEND),
    ]
    if any(row.paper is not None for row in rows):
        blocks.append(Legend(BESIDE_PAPER))
    sections = [Section("means", "Means", tuple(blocks))]
    for number, collection in enumerate(run.collections):
        if not any(facts.severity for facts in run.sets(collection)):
            continue
        blocks = []
        figures = figures_of(rows, collection)
        if figures:
            blocks.append(Figures(figures))
        for subject in inferences_of(rows):
            table = corruption_table(rows, collection, subject)
            blocks += [Legend(f"{inference_text(subject, with_k=True)}:"), table]
        sections.append(Section(f"corruptions-{number}", collection, tuple(blocks)))
    measured: list[Block] = [Bullets(tuple(_methodology(run)))]
    command = run.manifest.last.command
    if command:
        measured.append(Commands((shell(list(command)),)))
    sections.append(Section("measured", "How this was measured", tuple(measured)))
    return sections


def _methodology(run: ShiftRun) -> list[str]:
    facts, baseline = run.facts, baseline_of(run)
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
