"""Real runs on 200 digits: what is measured, and what is not done twice."""

import csv
import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.ablations import studies as run
from robustbench_coded.paper.ablations.report import preamble, results_of, write_studies
from robustbench_coded.paper.ablations.studies import (
    RCI,
    RCI_K,
    STANDARD,
    STUDIES,
    AblationRecords,
    AblationSettings,
    EpochRecord,
    Inference,
    Measurement,
    accuracy,
    base_config,
    make_missing,
    seeded,
)
from robustbench_coded.paper.studies.over_seeds import Records
from robustbench_coded.paper.training import loop
from robustbench_coded.paper.training.loop import Diverged

pytestmark = pytest.mark.long


@pytest.fixture
def trainings(monkeypatch):
    """The titles of trainings that really happen."""
    done = []
    original = loop.train

    def counted(config, path, **more):
        done.append((config.recipe, config.seed))
        return original(config, path, **more)

    monkeypatch.setattr(run, "train", counted)
    return done


def chosen(study, settings, *names):
    return [point for point in study.points(settings) if point.name in names]


def mu(settings, *values):
    """A study that asks little: attacks take most of the time."""
    study = dataclasses.replace(STUDIES["mu"], inferences=(Inference("standard"), RCI_K))
    return study, chosen(study, settings, *values)


def test_runs_are_shared_by_studies_and_never_made_twice(settings, tmp_path, trainings):
    order = dataclasses.replace(STUDIES["order"], inferences=(RCI_K,))
    planned = [mu(settings, "0.5", "1"), (order, chosen(order, settings, "erm (no codec)", "3"))]
    make_missing(AblationRecords(tmp_path), settings, planned)
    # mu 0.5 is order 3; mu 1 and ERM are the other two; two seeds each, and the seeds one after the other.
    assert len(trainings) == 6 and [seed for _, seed in trainings] == [0] * 3 + [1] * 3
    first = (tmp_path / "measurements.csv").read_bytes()
    make_missing(AblationRecords(tmp_path), settings, planned)
    assert len(trainings) == 6 and (tmp_path / "measurements.csv").read_bytes() == first
    # More seeds go on from there; other draws are another measurement of the same networks.
    make_missing(AblationRecords(tmp_path), dataclasses.replace(settings, seeds=3), planned)
    assert len(trainings) == 9
    make_missing(AblationRecords(tmp_path), dataclasses.replace(settings, draws=3), planned[:1])
    assert len(trainings) == 9
    rows = Records(tmp_path / "measurements.csv", Measurement).rows
    assert {row.draws for row in rows if row.inference == "RCI N=K"} == {2, 3}
    assert len({row.key for row in rows}) == len(rows)
    history = Records(tmp_path / "history.csv", EpochRecord).rows
    assert len(history) == 9 and all(row.validation_loss > 0 for row in history)


def test_a_stopped_ablation_goes_on(settings, tmp_path, trainings, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make_missing(AblationRecords(whole), settings, [mu(settings, "0.5", "1")])
    trainings.clear()
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return accuracy(*arguments)

    monkeypatch.setattr(run, "accuracy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_missing(AblationRecords(stopped), settings, [mu(settings, "0.5", "1")])
    assert len(trainings) == 2
    make_missing(AblationRecords(stopped), settings, [mu(settings, "0.5", "1")])
    # The second training had finished: its checkpoint is measured, not made again.
    assert len(trainings) == 4
    for name in ("measurements.csv", "history.csv"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_diverges_is_a_result(settings, tmp_path, monkeypatch):
    original = loop.train

    def sometimes(config, path, **more):
        if config.recipe.mu == 1 and config.seed == 1:
            raise Diverged("epoch 1: the loss is nan")
        return original(config, path, **more)

    monkeypatch.setattr(run, "train", sometimes)
    records = AblationRecords(tmp_path)
    study, points = mu(settings, "0.5", "1")
    make_missing(records, settings, [(study, points)])
    whole, half = (
        r
        for r in results_of(study, points, records, settings)
        if (r.inference.name, r.attack, r.figure) == ("standard", "clean", "accuracy")
    )
    assert (whole.seeds, whole.diverged) == (2, 0) and whole.deviation is not None
    assert (half.seeds, half.diverged, half.deviation) == (1, 1, None)
    write_studies(records, settings, [(study, points)])
    assert "(1 of 2 diverged)" in (tmp_path / "report.md").read_text()


def test_rci_is_scored_on_the_streams_of_an_evaluation():
    """The clean accuracy of RCI against its definition, batch by batch and draw by draw."""
    data = load_data("digits").subset(np.arange(300))
    path = Path(__file__).parents[3] / "checkpoints" / "digits-erm.safetensors"
    model = with_normalisation(load_checkpoint(path), *data.batch(range(1)))
    asked = AblationSettings(base_config(arch="digits-cnn", data="digits"), limit=300, draws=2, eps=0.1)

    def measured(inference, *attack):
        return accuracy(model, data, asked, inference, *attack)

    from robustbench_coded.coding.codec import Codec

    right = 0
    codec = Codec(128, 128)
    for batch, rows in enumerate(([*range(128)], [*range(128, 256)], [*range(256, 300), *range(84)])):
        x, y = data.batch(rows)
        scored = 128 if batch < 2 else 44
        for draw in range(2):
            perm = torch.randperm(128, generator=stream(0, batch, "scoring", draw))
            hits = codec.smoothed(x[None], model, perm[None])[0].argmax(1) == y
            right += int(hits[:scored].sum())
    assert measured(RCI_K) == right / 600
    x, y = data.batch(range(300))
    assert measured(STANDARD) == pytest.approx((model(x).argmax(1) == y).float().mean().item())
    assert measured(STANDARD, "pgd-10") < 0.8 < measured(RCI)
    # RCI passes on nearly all of a transferred perturbation.
    transferred = measured(RCI, "transfer-pgd-20")
    linear = Inference("RCI N=1.5K, order 1", "1.5K", {"order": 1}, ("transfer-pgd-20",))
    assert transferred < measured(RCI, "pgd-10") and measured(linear, "transfer-pgd-20") < 0.8


def test_tables_and_figures_show_what_was_measured(settings, tmp_path):
    records = AblationRecords(tmp_path)
    recipe = STUDIES["recipe"]
    planned_mu = mu(settings, "0.5", "1")
    for planned in ([planned_mu], [(recipe, chosen(recipe, settings, "erm"))]):
        make_missing(records, settings, planned)
        write_studies(records, settings, planned)
    rows = list(csv.DictReader((tmp_path / "mu.csv").open()))
    measured = [
        row.accuracy
        for row in records.measurements.rows
        if row.inference == "standard" and row.attack == "clean" and row.recipe == "coded"
    ]
    clean = [row for row in rows if row["inference"] == "standard" and row["attack"] == "clean"]
    assert [row["mu"] for row in clean if row["figure"] == "accuracy"] == ["0.5", "1"]
    # Two points, two seeds: the means of the points have the mean of all runs.
    means = [float(row["mean"]) for row in clean if row["figure"] == "accuracy"]
    assert sum(means) / 2 == pytest.approx(sum(measured) / 4, abs=1e-5)
    first = [
        row.accuracy
        for config in seeded(settings, planned_mu[1][0])
        for row in records.measurements.rows
        if (row.run, row.inference, row.attack) == (run.run_id(config), "standard", "clean")
    ]
    assert float(clean[0]["deviation"]) == pytest.approx(statistics.stdev(first), rel=1e-4)
    assert all(row["seeds"] == "2" and row["paper"] == "" for row in rows)
    report = (tmp_path / "report.md").read_text()
    assert report.index("Training recipes (Table 1") < report.index("Weight of the coded path (Table 7")
    assert "±" in report and "**Shortened**" in report
    assert "Means over 2 seeds, each with its own split of" in report
    images = len(load_data(settings.base.data, split="train"))
    assert f"{images:,} training images (10% of them held out" in report
    assert f"1 epochs of {images:,} images and 2 seeds, where the paper has 350 epochs" in report
    for name in ("mu", "recipe"):
        assert b"</svg>" in (tmp_path / "figures" / f"{name}.svg").read_bytes()


def test_one_run_a_setting_is_not_called_a_mean(settings):
    alone = preamble(dataclasses.replace(settings, seeds=1))
    assert "One run for each setting" in alone and "Means over" not in alone and "without deviations" in alone
