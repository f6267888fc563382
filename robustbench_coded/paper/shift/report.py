"""report.md, report.html and shift.csv of one run of `csrobust paper shift`, with its tables and figures."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from robustbench_coded.paper.shift.estimates import Row, ShiftEstimate, ShiftRun, table5
from robustbench_coded.paper.shift.sets import CLEAN, plain
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


def figure_text(figure: ShiftEstimate | None, *, sign: str = "") -> str:
    """``71.2 [69.8, 72.6]``; nothing where there is no figure."""
    if figure is None:
        return ""
    ends = interval(figure.low, figure.high, IntervalKind.POPULATION)
    return f"{100 * figure.value:{sign}.1f} {ends}".rstrip()


def means_table(rows: Sequence[Row]) -> TextTable:
    """A line for each subject and each mean, or natural set: accuracy, difference, mean corruption error."""
    with_k = len({row.subject.k for row in rows if row.subject.k is not None}) > 1
    order = list(dict.fromkeys((row.collection, row.over) for row in rows))
    means = sorted(
        filter(lambda row: row.is_mean, rows), key=lambda row: order.index((row.collection, row.over))
    )
    figures: Columns[Row] = {
        "Accuracy": lambda row: figure_text(row.accuracy),
        "Less the baseline": lambda row: figure_text(row.difference, sign="+z"),
        "mCE": lambda row: figure_text(row.error),
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


def corruption_table(rows: Sequence[Row]) -> TextTable:
    """Corruptions and severities down, checkpoints across, of one collection under one inference."""
    shown = [row for row in rows if row.severity is None or row.over == CLEAN]
    cells = {(row.over, row.subject.checkpoint): figure_text(row.accuracy) for row in shown}
    across = list(dict.fromkeys(row.subject.checkpoint for row in shown))
    down = dict.fromkeys(row.over for row in shown)
    lines = tuple((over, *(cells.get((over, column), "") for column in across)) for over in down)
    return TextTable(("Over", *across), lines, frozenset(across))


def severity_curves(by_inference: Mapping[str, Sequence[Row]], collection: str) -> style.Drawing:
    """A panel for each inference and a curve for each checkpoint: the mean over corruptions by severity."""
    with style.styled():
        figure, axes = style.panels(len(by_inference))
        for panel, (inference, rows) in zip(axes, by_inference.items(), strict=True):
            curves: dict[str, list[tuple[int, ShiftEstimate]]] = {}
            for row in rows:
                if row.over == CLEAN or row.over.startswith("severity"):
                    severity = 0 if row.over == CLEAN else int(row.over.split()[1])
                    curves.setdefault(row.subject.checkpoint, []).append((severity, row.accuracy))
            for number, (checkpoint, curve) in enumerate(curves.items()):
                severities, values = zip(*curve, strict=True)
                points = np.array(
                    [(v.value, v.value if v.low is None else v.low, v.high or v.value) for v in values]
                )
                middle, low, high = 100 * points.T
                bars = np.maximum([middle - low, high - middle], 0)
                panel.errorbar(severities, middle, yerr=bars, **style.style_of(number, checkpoint))
                panel.set_xticks(severities)
            panel.set_title(style.label(inference))
            panel.set_xlabel("severity (0: clean)")
            style.percent_axis(panel)
        style.legend(figure, axes)
        caption = f"{collection}: mean over the corruptions at each severity, with 95% intervals."
        return style.drawing(figure, plain(f"severity {collection}"), "Accuracy over severity", caption)


OURS = (
    "The corrupted sets are made by csrobust with the constants of the CIFAR version of Hendrycks and "
    "Dietterich (arXiv 1903.12261), not the published files. They differ from these in the random numbers, "
    "in the textures of frost (ours are synthetic, theirs are photographs), in the version of the JPEG "
    "library, and in details of other image libraries (docs/shift.md)."
)


def write_shift_report(run: ShiftRun) -> None:
    """Writes shift.csv, report.md, report.html and figures/ beside the folders of the sets."""
    lines = ([csv_cell(figure[name]) for name in CSV_COLUMNS] for row in run.rows for figure in row.as_data())
    write_text(run.path / "shift.csv", csv_document(CSV_COLUMNS, lines))
    corrupted = sum(one.severity > 0 for one in run.runs)
    sizes = " or ".join(f"{size:,}" for size in sorted({row.examples for row in run.rows}))
    opening = (
        f"{counted(len(run.runs), 'set')}, {corrupted} of them corrupted, of {sizes} images each. Nothing "
        "was attacked: this says how accuracy changes under shift, and nothing of robustness against an "
        "adversary."
    )
    write_plain(run.path, "Accuracy under covariate shift", [opening], [*_sections(run)])


def _sections(run: ShiftRun) -> Iterator[Section]:
    means: list[Block] = [means_table(run.rows), Legend(MEANS_LEGEND)]
    if any(row.paper is not None for row in run.rows):
        means.append(Legend(BESIDE_PAPER))
    yield Section("means", "Means", tuple(means))
    for collection in dict.fromkeys(row.collection for row in run.rows if row.severity):
        by_inference: dict[str, list[Row]] = {}
        for row in run.rows:
            if row.collection == collection:
                by_inference.setdefault(inference_text(row.subject, with_k=True), []).append(row)
        blocks: list[Block] = [Figures((severity_curves(by_inference, collection),))]
        for inference, rows in by_inference.items():
            blocks += [Legend(f"{inference}:"), corruption_table(rows)]
        yield Section(plain(f"corruptions {collection}"), collection, tuple(blocks))
    measured: list[Block] = [Bullets(tuple(_methodology(run)))]
    if command := run.manifest.last.command:
        measured.append(Commands((shell(list(command)),)))
    yield Section("measured", "How this was measured", tuple(measured))


def _methodology(run: ShiftRun) -> Iterator[str]:
    manifest = run.manifest
    if any("(ours)" in collection for collection in run.collections):
        yield OURS
    if (limit := manifest.identity.limit) is not None:
        how = "a random part, stratified by class" if manifest.identity.subset else "the first images"
        yield f"Limited to {limit} images a set (--limit): {how}, the same of every corruption."
    sizes = " or ".join(map(str, manifest.last.options["batch_size"]))
    yield (
        f"Batches of K = {sizes} images of one set, the same images in every corruption; the last batch is "
        f"filled up with images that are not counted. Seed {manifest.identity.seed}."
    )
    if (draws := max((row.draws for row in run.rows), default=1)) > 1:
        yield f"Inference that is random: {draws} draws for every batch, alike in every set."
    lacking = "" if run.baseline else ", which is not complete: there are no differences and no mCE"
    yield f"Baseline: standard inference of {manifest.checkpoints[0].name}{lacking}."
    for subject in run.incomplete:
        yield f"{subject_text(subject)} is incomplete and left out; the same command completes it."
    yield from (f"{c.name}: {c.arch}, sha256 {c.sha256[:16]}." for c in manifest.checkpoints)
    yield "Each set is an evaluation in a folder of its own, which csrobust show and report read."
    yield from manifest.notes
    yield ", ".join(f"{name} {version}" for name, version in manifest.last.versions.items()) + "."
