"""Means and deviations over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_coded.ablations.paper import papers_figure
from robustbench_coded.ablations.point import Inference, Point
from robustbench_coded.ablations.run import Laboratory
from robustbench_coded.ablations.studies import Study


@dataclass(frozen=True)
class Result:
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

    point: Point
    inference: Inference
    attack: str
    figure: str
    mean: float | None
    deviation: float | None
    seeds: int
    diverged: int
    paper: float | None


def results_of(study: Study, points: Sequence[Point], laboratory: Laboratory) -> list[Result]:
    """All figures of a study, point by point."""
    results = []
    for point in points:
        for inference in study.inferences:
            rows = laboratory.figures(point, inference)
            for attack in ("clean", *inference.attacks):
                asked = [row for row in rows if row.attack == attack]
                plain = inference.n is None and attack == "clean"
                for figure in ("accuracy", "loss") if plain else ("accuracy",):
                    values = [getattr(row, figure) for row in asked if row.accuracy is not None]
                    paper = papers_figure(study, point, laboratory.settings, figure) if plain else None
                    results.append(
                        Result(
                            point,
                            inference,
                            attack,
                            figure,
                            statistics.fmean(values) if values else None,
                            statistics.stdev(values) if len(values) > 1 else None,
                            len(values),
                            len(asked) - len(values),
                            paper,
                        )
                    )
    return results
