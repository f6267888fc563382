"""The report on generators, beside Table 2 of arXiv 2510.00253."""

import json
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from robustbench_coded.errors import InputError
from robustbench_coded.paper.generation.train import (
    PAPERS_ITERATIONS,
    PLAIN,
    POINTS,
    SAMPLES,
    SHOWN,
    GeneratorPoint,
)
from robustbench_coded.paper.studies import plain_report
from robustbench_coded.paper.studies.over_seeds import Records, SeedSpread, spread
from robustbench_coded.reports.figures.style import COLOURS, WIDTH, Drawing, drawing, logarithmic_y, styled
from robustbench_coded.reports.render.sections import Bullets, Figures, Legend, Section
from robustbench_coded.reports.text.formatting import TextTable, counted

FACTS = "gan.json"
DISTANCE, SCORE = operator.attrgetter("distance"), operator.attrgetter("score")  # of a Point


def _share(point: GeneratorPoint) -> float:
    """A generator step in units of the training's own critic steps."""
    return point.generator_seconds / point.critic_seconds


FAR = 5  # times the distance of test images: a generator that has not learnt the data


def write_gan_report(folder: Path) -> list[GeneratorPoint]:
    """Writes report.md, report.html and figures/; returns all measurements.

    Raises:
        InputError: no folder of ``csrobust paper gan``.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        names = f"FD ({facts['features']})", f"IS ({facts['features']})"
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} is no folder of csrobust paper gan (it has no usable {FACTS})") from error
    points = [
        point for path in sorted(folder.glob(f"*/{POINTS}")) for point in Records(path, GeneratorPoint).rows
    ]
    ends = last_points(points)
    figures = [_curves(points, names)]
    grid = _samples(folder, ends)
    sections = [
        Section(
            "figures-of-merit",
            "At the end of training",
            (
                _table(ends, names),
                Legend(LEGEND),
                Figures(tuple(figures)),
            ),
        ),
        Section("cost", "Cost of the coded path", (_cost(ends), Legend(COST_LEGEND))),
        Section("samples", "Samples", (Figures((grid,)) if grid is not None else Legend("None yet."),)),
        Section("measured", "How this was measured", (Bullets(tuple(_facts(facts))),)),
    ]
    plain_report.write_plain(
        folder,
        f"WGAN-GP on {facts['data']}, plain and coded",
        [*_opening(ends, names, facts["test_distance"]), _standing(ends)],
        sections,
    )
    return points


LEGEND = (
    "Means over seeds with Student's 95% intervals. FD: Frechet distance to the training images, lower is "
    "better. IS: inception score, higher is better. Less plain: paired over seeds."
)
COST_LEGEND = (
    "Processor time. An iteration is all critic steps and one generator step; the latter has the coded path. "
    "Ratios, paired by seed, take both relative to the critic steps of their own training. These are the "
    "same work in every training, so a machine that is slower during one of them changes no ratio."
)


def last_points(points: Sequence[GeneratorPoint]) -> dict[str, dict[int, GeneratorPoint]]:
    """By variant and seed, the measurements at the last iteration that all of them have reached."""
    by_run: dict[tuple[str, int], list[GeneratorPoint]] = {}
    for point in points:
        by_run.setdefault((point.variant, point.seed), []).append(point)
    if not by_run:
        return {}
    least = min(max(p.iteration for p in run) for run in by_run.values())
    ends: dict[str, dict[int, GeneratorPoint]] = {}
    for (variant, seed), run in by_run.items():
        at = [p for p in run if p.iteration == least]
        if at:
            ends.setdefault(variant, {})[seed] = at[0]
    return dict(
        sorted(ends.items(), key=lambda pair: (pair[0] != PLAIN, next(iter(pair[1].values())).n or 0))
    )


def beside_plain(
    ends: dict[str, dict[int, GeneratorPoint]],
    variant: str,
    of: Callable[[GeneratorPoint], float],
    apart: Callable[[float, float], float] = operator.sub,
) -> SeedSpread | None:
    """A variant's figure less plain's, seed by seed, or its ratio to it; None without common seeds."""
    coded, plain = ends[variant], ends.get(PLAIN, {})
    gaps = [apart(of(coded[seed]), of(plain[seed])) for seed in sorted(coded.keys() & plain.keys())]
    return spread(gaps) if variant != PLAIN and gaps else None


def _table(ends: dict[str, dict[int, GeneratorPoint]], names: tuple[str, str]) -> TextTable:
    lines = []
    for variant, of_seed in ends.items():
        cells = []
        for of in (DISTANCE, SCORE):
            less = beside_plain(ends, variant, of)
            cells += [
                spread([of(p) for p in of_seed.values()]).text(3),
                less.text(3, "+") if less else "",
            ]
        lines.append((variant, str(len(of_seed)), *cells))
    heads: tuple[str, ...] = ("Generator", "Seeds")
    for name in names:
        heads += (name, f"{name[:2]} less plain")
    return TextTable(heads, tuple(lines), frozenset(heads[1:]))


def _cost(ends: dict[str, dict[int, GeneratorPoint]]) -> TextTable:
    lines = []
    for variant, of_seed in ends.items():
        steps = spread([1000 * p.generator_seconds for p in of_seed.values()])
        whole = spread([1000 * (p.generator_seconds + p.critic_seconds) for p in of_seed.values()])
        shares = (_share, lambda point: 1 + _share(point))
        spreads = [beside_plain(ends, variant, of, operator.truediv) for of in shares]
        ratios = ["" if cell is None else cell.text() for cell in spreads]
        lines.append((variant, steps.text(1), ratios[0], whole.text(1), ratios[1]))
    heads = ("Generator", "Generator step, ms", "Ratio to plain", "Iteration, ms", "Ratio to plain of it")
    return TextTable(heads, tuple(lines), frozenset(heads[1:]))


def _curves(points: Sequence[GeneratorPoint], names: tuple[str, str]) -> Drawing:
    """Both figures over iterations: means over seeds in their intervals, as in the paper's Figure 5b."""
    variants = list(last_points(points)) or list(dict.fromkeys(p.variant for p in points))
    with styled():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        for axes, of, name in zip(figure.subplots(1, 2), (DISTANCE, SCORE), names, strict=True):
            for number, variant in enumerate(variants):
                chosen = [p for p in points if p.variant == variant]
                iterations = sorted({p.iteration for p in chosen})
                spreads = [spread([of(p) for p in chosen if p.iteration == i]) for i in iterations]
                colour = COLOURS[number % len(COLOURS)]
                axes.plot(iterations, [s.mean for s in spreads], color=colour, label=variant)
                low = [s.mean if s.low is None else s.low for s in spreads]
                high = [s.mean if s.high is None else s.high for s in spreads]
                axes.fill_between(iterations, low, high, color=colour, alpha=0.15)
            axes.set_title(name, fontsize=8)
            axes.set_xlabel("iteration")
        logarithmic_y(figure.axes[0])
        figure.axes[0].set_ylabel("Frechet distance")
        figure.axes[1].set_ylabel("inception score")
        figure.axes[1].legend()
        caption = "Means over seeds in Student's 95% intervals, of the averaged generator."
        return drawing(figure, "curves", "Figures of merit during training", caption)


def _samples(folder: Path, ends: dict[str, dict[int, GeneratorPoint]]) -> Drawing | None:
    grids = []
    for variant, of_seed in ends.items():
        name = f"{variant.lower().replace(' ', '-').replace('=', '')}-seed{min(of_seed)}"
        file = folder / name / SAMPLES
        if file.is_file():
            grids.append((variant, np.load(file, allow_pickle=False)[:SHOWN]))
    if not grids:
        return None
    with styled():
        figure = Figure(figsize=(WIDTH, 0.8 * len(grids)), layout="constrained")
        for axes, (variant, images) in zip(np.atleast_1d(figure.subplots(len(grids), 1)), grids):
            row = np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1)
            # "none": the SVG has these pixels, and not as many as a screen.
            axes.imshow(row.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="none")
            axes.set_title(variant)
            axes.axis("off")
        return drawing(figure, "samples", "Samples", "The first seed's, from the same latents, not chosen.")


def _opening(ends: dict[str, dict[int, GeneratorPoint]], names: tuple[str, str], real: float) -> list[str]:
    sentences = []
    for variant in ends:
        less, more = beside_plain(ends, variant, DISTANCE), beside_plain(ends, variant, SCORE)
        if less is None or more is None:
            continue
        parts = [
            f"{name} {figure.text(3, '+')} ({_word(figure, lower=lower)})"
            for name, figure, lower in ((names[0], less, True), (names[1], more, False))
        ]
        sentences.append(f"{variant} less plain, {counted(less.seeds, 'seed')}: {', '.join(parts)}.")
    nearest = min((p.distance for of_seed in ends.values() for p in of_seed.values()), default=0.0)
    if nearest > FAR * real:
        sentences.append(
            f"Training is far from its end: the best generator has FD {nearest:.2f}, "
            f"test images {real:.2f}. "
            "What is compared is how fast training begins, not what it leads to."
        )
    return sentences


def _standing(ends: dict[str, dict[int, GeneratorPoint]]) -> str:
    """How the figures stand to the paper's."""
    reached = max((p.iteration for of_seed in ends.values() for p in of_seed.values()), default=0)
    iterations = f"{reached:,} iterations, where the paper has {PAPERS_ITERATIONS:,}."
    return (
        f"{iterations} FD and IS are measured with a classifier of this project, not with Inception: "
        "they are not the paper's figures and cannot be held against them."
    )


def _word(less: SeedSpread, *, lower: bool) -> str:
    if less.low is None or less.high is None:
        return "one seed, no interval"
    if less.low <= 0 <= less.high:
        return "no difference found"
    return "better" if (less.high < 0) == lower else "worse"


def _facts(facts: dict[str, Any]) -> list[str]:
    config = facts["config"]
    return [
        f"{facts['images']:,} training images of {facts['data']}; FD is measured against all of "
        f"them, with {config['samples']:,} generated images, of the running mean of the generator's weights "
        f"(decay {config['ema']:g}).",
        f"The test images have FD {facts['test_distance']:.3f} to the training images and IS "
        f"{facts['test_score']:.3f}: what images as good as real ones would reach.",
        f"WGAN-GP (arXiv 1704.00028): K = {config['batch_size']}, {config['critic_steps']} critic steps for "
        f"each generator step, gradient penalty {config['penalty']:g}, Adam {config['learning_rate']:g} with "
        f"betas {config['betas'][0]:g} and {config['betas'][1]:g}.",
        f"Coded: mu = {config['mu']:g}; latents are encoded, the generator runs on the coded ones, and the "
        "critic scores the decoded images, too. The paper gives no formula for this; it says N = K = 64 in "
        "one place and N = 96 in another, so both are here.",
        "Plain and coded generators of one seed begin alike and see the same images and latents.",
    ]
