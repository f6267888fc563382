"""Rows of a shift run as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustbench_coded.reports.text.formatting import accuracy_text, inference_text, interval, percent
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.shift.facts import SetFacts
from robustbench_coded.shift.rows import Row
from robustbench_coded.shift.sets import CLEAN


def means_table(rows: Sequence[Row]) -> TextTable:
    """A line for each subject and each mean, or natural set: accuracy, difference, mean corruption error."""
    return means_of_runs({"": rows})


def means_of_runs(runs: Mapping[str, Sequence[Row]], *, paper: bool = True) -> TextTable:
    """`means_table` of several runs, given by name; ``paper`` shows the paper's figures, if any."""
    lines: list[tuple[str, ...]] = []
    with_k = len({row.subject.k for rows in runs.values() for row in rows if row.subject.k is not None}) > 1
    for name, rows in runs.items():
        found = {(r.subject, r.collection, r.over, r.figure): r for r in rows}
        for row in rows:
            natural = row.severity == 0 and row.figure == "accuracy"
            if not (natural or (row.over.startswith("mean") and row.figure == "accuracy")):
                continue
            key = (row.subject, row.collection, row.over)
            error = found.get((*key, "corruption_error"))
            lines.append(
                (
                    row.collection,
                    row.over,
                    name,
                    row.subject.checkpoint,
                    inference_text(row.subject, with_k=with_k),
                    row_text(row),
                    points_text(found.get((*key, "difference"))),
                    "" if error is None else row_text(error),
                    "" if row.paper is None or not paper else percent(row.paper),
                )
            )
    heads: tuple[str, ...] = ("Images", "Over", "Run", "Checkpoint", "Inference", "Accuracy")
    heads += ("Less the baseline", "mCE", "Paper")
    order = list(dict.fromkeys((line[0], line[1]) for line in lines))
    lines.sort(key=lambda line: order.index((line[0], line[1])))  # stable: subjects as they come
    empty = {
        i for i, head in enumerate(heads) if head in ("mCE", "Paper") and not any(line[i] for line in lines)
    }
    empty |= {heads.index("Run")} if len(runs) == 1 else set()
    shown = [i for i in range(len(heads)) if i not in empty]
    numbers = frozenset(heads[heads.index("Accuracy") :])
    heads = tuple(heads[i] for i in shown)
    return TextTable(heads, tuple(tuple(line[i] for i in shown) for line in lines), numbers & set(heads))


def tables_of_means(table: TextTable) -> Iterator[tuple[str, str, TextTable]]:
    """A table of means in parts for a terminal: images, what the mean is over, and its subjects."""
    parts: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for images, over, *rest in table.rows:
        parts.setdefault((images, over), []).append(tuple(rest))
    for (images, over), lines in parts.items():
        kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines)]
        heads = tuple(table.heads[2 + i] for i in kept)
        yield (
            images,
            over,
            TextTable(
                heads, tuple(tuple(line[i] for i in kept) for line in lines), table.numbers & set(heads)
            ),
        )


def corruption_table(rows: Sequence[Row], collection: str, defence: tuple[str, int | None]) -> TextTable:
    """Corruptions and severities down, checkpoints across, under one inference."""
    chosen = [
        r for r in rows
        if r.collection == collection and (r.subject.defence, r.subject.n) == defence
        and r.figure == "accuracy" and (r.severity is None or r.over == CLEAN)
    ]  # fmt: skip
    checkpoints = list(dict.fromkeys(r.subject.checkpoint for r in chosen))
    overs = list(dict.fromkeys(r.over for r in chosen))
    cells = {(r.over, r.subject.checkpoint): row_text(r) for r in chosen}
    lines = tuple((over, *(cells.get((over, name), "") for name in checkpoints)) for over in overs)
    return TextTable(("Over", *checkpoints), lines, frozenset(checkpoints))


def every_set(rows: Sequence[Row]) -> TextTable:
    """Every set by itself: severities across."""
    chosen = [r for r in rows if r.figure == "accuracy" and r.severity]
    severities = sorted({r.severity for r in chosen if r.severity})
    cells = {(r.subject, r.collection, r.over, r.severity): percent(r.estimate.value) for r in chosen}
    keys = list(dict.fromkeys((r.subject, r.collection, r.over) for r in chosen))
    lines = tuple(
        (
            key[1],
            key[2],
            key[0].checkpoint,
            inference_text(key[0]),
            *(cells.get((*key, s), "") for s in severities),
        )
        for key in keys
    )
    heads = ("Images", "Corruption", "Checkpoint", "Inference", *(f"severity {s}" for s in severities))
    return TextTable(heads, lines, frozenset(heads[4:]))


def statistics_table(sets: Sequence[SetFacts]) -> TextTable:
    """Mean and deviation of the pixels and PSNR, a line a corruption, severities side by side."""
    names = list(dict.fromkeys((one.collection, one.name) for one in sets))
    lines = []
    for collection, name in names:
        of = [one for one in sets if (one.collection, one.name) == (collection, name)]
        psnr = " / ".join("–" if one.psnr is None else f"{one.psnr:.1f}" for one in of)
        lines.append(
            (
                collection,
                name,
                " / ".join(f"{one.mean:.1f}" for one in of),
                " / ".join(f"{one.deviation:.1f}" for one in of),
                psnr,
            )
        )
    return TextTable(("Images", "Set", "Mean", "Deviation", "PSNR, dB"), tuple(lines))


def row_text(row: Row) -> str:
    """``71.2 [69.8, 72.6]``"""
    return accuracy_text(row.estimate.value, row.estimate.low, row.estimate.high)


def points_text(row: Row | None) -> str:
    """``+1.3 [0.2, 2.4]`` in percentage points."""
    if row is None:
        return ""
    return f"{100 * row.estimate.value:+.1f} {interval(row.estimate.low, row.estimate.high)}".strip()


def inferences_of(rows: Sequence[Row]) -> list[SubjectKey]:
    """One subject for each inference, in their order."""
    return list({(r.subject.defence, r.subject.n): r.subject for r in reversed(rows)}.values())[::-1]
