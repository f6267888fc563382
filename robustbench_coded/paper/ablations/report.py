"""Report of an ablation over seeds: tables beside the paper's, figures, report.md and CSV files."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.paper.ablations.studies import (
    STUDIES,
    AblationRecords,
    AblationSettings,
    Inference,
    Study,
    StudyPoint,
    figures,
)
from robustbench_coded.paper.studies.beside_paper import printed
from robustbench_coded.paper.studies.over_seeds import csv_cell
from robustbench_coded.paper.training.config import CodedRecipe
from robustbench_coded.reports.figures.style import WIDTH, Drawing, drawing, label, style_of, styled
from robustbench_coded.reports.render.markdown import markdown_text_table
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.runs.atomic import write_text


def paper_tables() -> dict[str, Any]:
    """Tables 1, 6, 7, 8 and 9 as printed."""
    return printed("ablations")


def papers_figure(study: Study, point: StudyPoint, settings: AblationSettings, figure: str) -> float | None:
    """The paper's ``accuracy`` (a fraction) or ``loss`` for a point; None where it has no such setting.

    The same data, recipe, K and N make the same setting; network and epochs may differ, as the report says.
    """
    table = _table(study, settings)
    value = table.get(figure, {}).get(point.paper) if point.paper is not None else None
    return value if value is None or figure == "loss" else round(value / 100, 6)


def papers_network(study: Study, settings: AblationSettings) -> str:
    """The architecture that the paper's numbers of this study are for."""
    if study.name == "recipe" and (data := formatting.papers_set(settings.base.data)):
        return str(paper_tables()["table1"][data]["network"])
    return str(paper_tables()["network"])


def _table(study: Study, settings: AblationSettings) -> dict[str, Any]:
    data = formatting.papers_set(settings.base.data)
    if study.table is None or data is None:
        return {}
    table = paper_tables()[study.table.lower().replace(" ", "")]
    if study.name == "recipe":
        return {"accuracy": table[data]}
    return table if data == "cifar10" and settings.k == paper_tables()["k"] else {}


_FIGURES = ("attack", "figure", "mean", "deviation", "seeds", "diverged", "paper")


@dataclass(frozen=True)
class StudyResult:
    """One figure of one point.

    Attributes:
        inference, attack: how it was asked; ``clean`` for unperturbed inputs.
        figure: ``accuracy`` (a fraction) or ``loss`` (nats).
        mean: over the seeds that did not diverge; None where all did.
        deviation: sample standard deviation over seeds; None for fewer than two.
        seeds: runs that did not diverge.
        diverged: runs that did.
        paper: the paper's figure in this setting, if it has one.
    """

    point: StudyPoint
    inference: Inference
    attack: str
    figure: str
    mean: float | None
    deviation: float | None
    seeds: int
    diverged: int
    paper: float | None

    def as_columns(self) -> dict[str, object]:
        """Columns for a table file and ``--json``."""
        names = {"point": self.point.name, "inference": self.inference.name}
        return {**names, **{name: getattr(self, name) for name in _FIGURES}}


def results_of(
    study: Study, points: Sequence[StudyPoint], records: AblationRecords, settings: AblationSettings
) -> list[StudyResult]:
    """All figures of a study, point by point."""
    results = []
    for point, inference in product(points, study.inferences):
        rows = figures(records, settings, point, inference)
        for attack in ("clean", *inference.attacks):
            of_attack = [row for row in rows if row.attack == attack]
            plain = inference.n is None and attack == "clean"
            for figure in ("accuracy", "loss") if plain else ("accuracy",):
                values = [getattr(row, figure) for row in of_attack if row.accuracy is not None]
                mean = statistics.fmean(values) if values else None
                deviation = statistics.stdev(values) if len(values) > 1 else None
                counts = len(values), len(of_attack) - len(values)
                paper = papers_figure(study, point, settings, figure) if plain else None
                results.append(StudyResult(point, inference, attack, figure, mean, deviation, *counts, paper))
    return results


def table_csv(study: Study, results: Sequence[StudyResult]) -> str:
    """One line a figure; accuracies are fractions."""
    rows = [[*map(csv_cell, r.as_columns().values())] for r in results]
    return escape.csv_document((study.head.replace(" ", "_"), "inference", *_FIGURES), rows)


def sheet_of(study: Study, results: Sequence[StudyResult]) -> formatting.TextTable:
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
            cells += [_cell(r), _paper_cell(r)] if column in papers else [_cell(r)]
        rows.append(tuple(cells))
    return formatting.TextTable(tuple(heads), tuple(rows), frozenset(heads[1:]))


def section(study: Study, results: Sequence[StudyResult], settings: AblationSettings) -> str:
    """The study as a section of the report."""
    table = f" ({study.table} of the paper)" if study.table else ""
    lines = [
        f"## {study.title}{table}",
        "",
        markdown_text_table(sheet_of(study, results)),
        "",
        f"![{study.title}](figures/{study.name}.svg)",
    ]
    if any(r.paper is not None for r in results):
        network, epochs = papers_network(study, settings), paper_tables()["epochs"]
        lines += ["", f"The paper's numbers are of {network} after {epochs} epochs."]
    return "\n".join(lines) + "\n"


def preamble(settings: AblationSettings) -> str:
    """The preamble of all sections."""
    base = settings.base
    assert isinstance(base.recipe, CodedRecipe)
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


def _column(r: StudyResult) -> str:
    if r.figure == "loss":
        return "loss"
    return r.inference.name if r.attack == "clean" else f"{r.inference.name}, {r.attack}"


def _cell(r: StudyResult) -> str:
    scale, digits = (1, 3) if r.figure == "loss" else (100, 2 if r.attack == "clean" else 1)
    if r.mean is None:
        return "diverged" if r.diverged else ""
    text = f"{scale * r.mean:.{digits}f}"
    if r.deviation is not None:
        text += f" ± {scale * r.deviation:.{digits}f}"
    return text + (f" ({r.diverged} of {r.seeds + r.diverged} diverged)" if r.diverged else "")


def _paper_cell(r: StudyResult) -> str:
    if r.paper is None:
        return ""
    return f"{r.paper:.3g}" if r.figure == "loss" else f"{100 * r.paper:.4g}"


def draw(study: Study, results: Sequence[StudyResult]) -> Drawing:
    """Two panels; settings with an order lie on an axis of numbers, the others side by side."""
    names = list(dict.fromkeys(r.point.name for r in results))
    numbers = {r.point.name: r.point.x for r in results if r.point.x is not None}
    at = {name: numbers.get(name, float(i)) for i, name in enumerate(names)}
    accuracies = [r for r in results if r.figure == "accuracy" and r.mean is not None]
    with styled():
        figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
        clean, attacked = figure.subplots(1, 2)
        for axes, chosen, title in (
            (clean, [r for r in accuracies if r.attack == "clean"], "unperturbed inputs"),
            (attacked, [r for r in accuracies if r.attack != "clean"], "attacked inputs"),
        ):
            _lines(axes, chosen, at, joined=bool(numbers))
            axes.set_title(title)
            axes.set_xlabel(study.head)
            if not numbers:
                axes.set_xticks(
                    range(len(names)), [label(name, 18) for name in names], rotation=30, ha="right"
                )
                axes.set_xlim(-0.5, len(names) - 0.5)
        _paper_crosses(clean, accuracies, at)
        clean.set_ylabel("accuracy, %")
        attacked.set_ylim(-3, 103)
        for axes in (clean, attacked):  # a colour means something else in each
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), fontsize=7)
        caption = "Means over seeds; bars are sample standard deviations. The two axes have different scales."
        return drawing(figure, study.name, study.title, caption)


def _lines(axes: Axes, results: Sequence[StudyResult], at: dict[str, float], *, joined: bool) -> None:
    kinds = list(dict.fromkeys((r.inference.name, r.attack) for r in results))
    for style, kind in enumerate(kinds):
        chosen = [r for r in results if (r.inference.name, r.attack) == kind]
        shift = 0.0 if joined else 0.1 * (style - (len(kinds) - 1) / 2)  # bars side by side
        axes.errorbar(
            [at[r.point.name] + shift for r in chosen],
            [100 * (r.mean or 0.0) for r in chosen],
            yerr=[100 * (r.deviation or 0.0) for r in chosen],
            linestyle="-" if joined else "none",
            **{**style_of(style, ""), "label": _column(chosen[0])},
        )


def _paper_crosses(axes: Axes, results: Sequence[StudyResult], at: dict[str, float]) -> None:
    """The paper's accuracies as grey crosses."""
    chosen = [(at[r.point.name], 100 * r.paper) for r in results if r.paper is not None]
    if chosen:
        x, y = zip(*chosen, strict=True)
        axes.plot(x, y, "x", color="0.5", label="paper, standard")


def write_studies(
    records: AblationRecords,
    settings: AblationSettings,
    studies: Iterable[tuple[Study, Sequence[StudyPoint]]],
) -> dict[str, list[StudyResult]]:
    """Writes ``STUDY.csv``, ``STUDY.md``, ``figures/STUDY.svg`` and ``report.md``; returns the results.

    The report has the sections of all studies that the folder holds, also of those made by other calls.
    """
    folder, by_study = records.folder, {}
    for study, points in studies:
        results = results_of(study, points, records, settings)
        write_text(folder / f"{study.name}.csv", table_csv(study, results))
        write_text(folder / f"{study.name}.md", section(study, results, settings))
        draw(study, results).write(folder / "figures")
        by_study[study.name] = results
    sections = [folder / f"{name}.md" for name in STUDIES]
    texts = [path.read_text(encoding="utf-8") for path in sections if path.is_file()]
    write_text(folder / "report.md", "\n".join([preamble(settings), *texts]))
    return by_study
