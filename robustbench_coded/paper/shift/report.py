"""report.md, report.html and shift.csv of one run of `csrobust paper shift`, with its tables and figures."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.figure import Figure

from robustbench_coded.paper.shift.corruptions import CONSTANTS
from robustbench_coded.paper.shift.estimates import Row, ShiftRun, table5
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


def _means(rows: Sequence[Row]) -> list[Row]:
    """Accuracies of means over corruptions, and of sets without a severity."""
    return [r for r in rows if r.figure == "accuracy" and (r.severity == 0 or r.over.startswith("mean"))]


def means_table(rows: Sequence[Row]) -> TextTable:
    """A line for each subject and each mean, or natural set: accuracy, difference, mean corruption error."""
    with_k = len({row.subject.k for row in rows if row.subject.k is not None}) > 1
    other = beside(rows)
    means = _means(rows)
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
    return style.drawing(figure, plain(f"severity {collection}"), "Accuracy over severity", caption)


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
    return style.drawing(figure, plain(f"corruptions {collection}"), "Accuracy by corruption", caption)


OURS = (
    "The corrupted sets are made by csrobust with the constants of the CIFAR version of Hendrycks and "
    "Dietterich (arXiv 1903.12261), not the published files. They differ from these in the random numbers, "
    "in the textures of frost (ours are synthetic, theirs are photographs), in the version of the JPEG "
    "library, and in details of other image libraries (docs/shift.md)."
)


def write_shift_report(run: ShiftRun) -> None:
    """Writes shift.csv, report.md, report.html and figures/ beside the folders of the sets."""
    lines = ([csv_cell(data[name]) for name in CSV_COLUMNS] for data in (row.as_data() for row in run.rows))
    write_text(run.path / "shift.csv", csv_document(CSV_COLUMNS, lines))
    write_plain(run.path, "Accuracy under covariate shift", opening(run), _sections(run))


def opening(run: ShiftRun) -> list[str]:
    """Sentences on the result of each subject under the first inference, and on the measurement."""
    other, sentences = beside(run.rows), []
    means = [row for row in _means(run.rows) if row.subject.inference == run.rows[0].subject.inference]
    for last in {row.collection: row for row in means}.values():
        parts = []
        for row in (row for row in means if (row.collection, row.over) == (last.collection, last.over)):
            less = other(row, "difference")
            points = f" ({row_text(less, sign='+z')} points beside the baseline)" if less else ""
            parts.append(f"{row.subject.checkpoint} {row_text(row)}%{points}")
        how = inference_text(last.subject)
        how = how[:1].lower() + how[1:]
        sentences.append(f"{last.collection}, {last.over}, {how}: {'; '.join(parts)}.")
    corrupted = sum(one.severity > 0 for one in run.runs)
    sizes = " or ".join(f"{size:,}" for size in sorted({row.examples for row in run.rows}))
    sentences.append(
        f"{counted(len(run.runs), 'set')}, {corrupted} of them corrupted, of {sizes} images each. Nothing "
        "was attacked: this says how accuracy changes under shift, and nothing of robustness against an "
        "adversary."
    )
    return sentences


def _sections(run: ShiftRun) -> list[Section]:
    rows = run.rows
    blocks: list[Block] = [means_table(rows), Legend(MEANS_LEGEND)]
    if any(row.paper is not None for row in rows):
        blocks.append(Legend(BESIDE_PAPER))
    sections = [Section("means", "Means", tuple(blocks))]
    for collection in dict.fromkeys(one.collection for one in run.runs if one.severity):
        blocks = [Figures(figures)] if (figures := figures_of(rows, collection)) else []
        for subject in inferences_of(rows):
            table = corruption_table(rows, collection, subject)
            blocks += [Legend(f"{inference_text(subject, with_k=True)}:"), table]
        sections.append(Section(plain(f"corruptions {collection}"), collection, tuple(blocks)))
    measured: list[Block] = [Bullets(tuple(_methodology(run)))]
    if command := run.manifest.last.command:
        measured.append(Commands((shell(list(command)),)))
    return [*sections, Section("measured", "How this was measured", tuple(measured))]


def _methodology(run: ShiftRun) -> Iterator[str]:
    identity, options = run.manifest.identity, run.manifest.last.options
    if any("(ours)" in one.collection for one in run.runs):
        yield OURS
    if identity.limit is not None:
        how = "a random part, stratified by class" if identity.subset else "the first images"
        yield f"Limited to {identity.limit} images a set (--limit): {how}, the same of every corruption."
    yield (
        f"Batches of K = {options['batch_size'][0]} images of one set, the same images in every corruption; "
        f"the last batch is filled up with images that are not counted. Seed {identity.seed}."
    )
    if (draws := max(row.draws for row in run.rows)) > 1:
        yield f"Inference that is random: {draws} draws for every batch, alike in every set."
    if run.base is None:
        yield f"No differences and no mCE: the standard inference of {run.baseline} is not complete."
    else:
        yield f"Baseline: standard inference of {run.baseline}."
    for subject in (subject for subject, answers in run.answers.items() if answers is None):
        yield f"{subject_text(subject)} is incomplete and left out; the same command completes it."
    yield from (f"{c.name}: {c.arch}, sha256 {c.sha256[:16]}." for c in run.manifest.checkpoints)
    yield "Each set is an evaluation in a folder of its own, which csrobust show and report read."
    yield from run.manifest.notes
    versions = run.manifest.last.versions
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
