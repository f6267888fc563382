"""A study as a table: Markdown for readers, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from robustbench_coded.ablations.paper import paper_tables, papers_network, papers_row
from robustbench_coded.ablations.results import Result
from robustbench_coded.ablations.settings import AblationSettings
from robustbench_coded.ablations.studies import Study
from robustbench_coded.reports.render.markdown import markdown_text_table
from robustbench_coded.reports.text.escape import csv_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.training.recipes.coded import Coded

_COLUMNS = ("inference", "attack", "figure", "mean", "deviation", "seeds", "diverged", "paper")


def table_csv(study: Study, results: Sequence[Result]) -> str:
    """One line a figure; accuracies are fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((study.head.replace(" ", "_"), *_COLUMNS))
    for r in results:
        figures = ("" if value is None else f"{value:.6g}" for value in (r.mean, r.deviation))
        paper = "" if r.paper is None else f"{r.paper:.6g}"
        names = (csv_text(r.point.name), r.inference.name, r.attack, r.figure)
        writer.writerow((*names, *figures, r.seeds, r.diverged, paper))
    return text.getvalue()


def sheet_of(study: Study, results: Sequence[Result]) -> TextTable:
    """A row a point: the figures with their deviations, and the paper's where it has the setting."""
    columns = list(dict.fromkeys(_column(r) for r in results))
    papers = {_column(r) for r in results if r.paper is not None}
    heads = [study.head]
    for column in columns:
        heads += [column, f"paper's {column}"] if column in papers else [column]
    rows = []
    for name in dict.fromkeys(r.point.name for r in results):
        cells = [name]
        for column in columns:
            r = next(r for r in results if r.point.name == name and _column(r) == column)
            cells += [_cell(r), _paper(r)] if column in papers else [_cell(r)]
        rows.append(tuple(cells))
    return TextTable(tuple(heads), tuple(rows), frozenset(heads[1:]))


def section(study: Study, results: Sequence[Result], settings: AblationSettings) -> str:
    """The study as a section of the report."""
    table = f" ({study.table} of the paper)" if study.table else ""
    lines = [
        f"## {study.title}{table}",
        "",
        markdown_text_table(sheet_of(study, results)),
        "",
        f"![{study.title}](figures/{study.name}.png)",
    ]
    papers = papers_row(study)
    if papers and any(r.paper is not None for r in results):
        network, epochs = papers_network(study, settings), paper_tables()["epochs"]
        lines += ["", f"The paper's numbers are of {network} after {epochs} epochs."]
    elif papers:
        listed = "; ".join(f"{name.replace('_', ' with ')}: {value:g}" for name, value in papers.items())
        lines += [
            "",
            f"The paper has no such setting. Its {study.table} (test accuracy in percent, CIFAR-10, "
            f"{paper_tables()['network']}): {listed}.",
        ]
    return "\n".join(lines) + "\n"


def preamble(settings: AblationSettings) -> str:
    """What holds for all sections."""
    base = settings.base
    assert isinstance(base.recipe, Coded)
    several = settings.seeds > 1
    seeds = f"{settings.seeds} seeds" if several else "one seed"
    held_out = f" ({base.validation:.0%} of them held out to choose the epoch)" if base.validation else ""
    trained = f"{settings.train_images:,} training images{held_out}"
    runs = (
        f"Means over {seeds}, each with its own split of {trained}, with sample standard deviations"
        if several
        else f"One run for each setting, on {trained}, without deviations: small differences may be chance"
    )
    images = f"the first {settings.limit} test images (all where there are fewer)"
    lines = [
        f"# Ablations: {base.arch} on {base.data}",
        "",
        f"{runs}. Accuracies in percent, losses in nats. Every run: {base.total_epochs} epochs, batches of "
        f"K = {settings.k}, schedule {base.schedule}, learning rate {base.learning_rate:g}, weight decay "
        f"{base.weight_decay:g}, precision {base.precision}. Where nothing else is said, coded training has "
        f"mu = {base.recipe.mu:g} and N from {base.recipe.n_start:g} K to {base.recipe.n_end:g} K.",
        "",
        f"`standard` and its loss are measured on all test images. RCI and attacks: {images}, scoring draws "
        f"of RCI: {settings.draws}, made after the attack. Attacks perturb the whole batch within eps = "
        f"{settings.radius:.4g} (linf, pixel) and do not know the draw. transfer-pgd-20 follows the "
        "gradients of the network itself: where it leaves less than pgd-10, the rest is noise in pgd-10's "
        "gradients, not robustness.",
    ]
    if base.data != "digits" and (base.total_epochs < paper_tables()["epochs"]):
        lines += [
            "",
            f"**Shortened**: {base.total_epochs} epochs of {settings.train_images:,} images and {seeds}, "
            f"where the paper has {paper_tables()['epochs']} epochs of the whole data set and five seeds. "
            "Longer training may order the settings otherwise.",
        ]
    return "\n".join(lines) + "\n"


def _column(r: Result) -> str:
    if r.figure == "loss":
        return "loss"
    return r.inference.name if r.attack == "clean" else f"{r.inference.name}, {r.attack}"


def _cell(r: Result) -> str:
    scale, digits = (1, 3) if r.figure == "loss" else (100, 2 if r.attack == "clean" else 1)
    if r.mean is None:
        return "diverged" if r.diverged else ""
    text = f"{scale * r.mean:.{digits}f}"
    if r.deviation is not None:
        text += f" ± {scale * r.deviation:.{digits}f}"
    return text + (f" ({r.diverged} of {r.seeds + r.diverged} diverged)" if r.diverged else "")


def _paper(r: Result) -> str:
    if r.paper is None:
        return ""
    return f"{r.paper:.3g}" if r.figure == "loss" else f"{100 * r.paper:.4g}"
