"""Perturbed inputs made against one subject, submitted to another: planted faults and closed forms."""

import pandas as pd
import pytest
import torch
from torch import nn

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.run import load_run
from robustbench_coded.runs.outcomes import TOGETHER, units_in, write_units
from tests.evaluation.conftest import RowMean, Wrapper, with_checks
from tests.run_folders import digests

pytestmark = pytest.mark.long

N, EPS = 32, 0.1


class LyingGradients(Wrapper):
    """Exactly the classes of its model, with the slope of another row."""

    name = "lying"

    def logits(self, x, draw):
        hard = nn.functional.one_hot(self.model(x).argmax(1), 2).to(x)
        decoy = RowMean(4)(x)
        return hard + decoy - decoy.detach()


class CornersOnly(Wrapper):
    """Right wherever all pixels of a row moved equally far, by the true row; else as fragile as its model."""

    name = "corners"

    def logits(self, x, draw):
        moved = (x[:, 0, 7] - 128 / 255).abs()
        alike = (moved.amax(-1) - moved.amin(-1) < 1e-4) & (moved.amax(-1) > 1e-3)
        return torch.where(alike[:, None], RowMean(6)(x), self.model(x) + 1e-3 * RowMean(7)(x))


class OffGrid(Wrapper):
    """Right wherever a pixel is no multiple of 1/255, by another row, whose margins no attack takes."""

    name = "off-grid"

    def logits(self, x, draw):
        levels = x * 255
        off = (levels - levels.round()).abs().flatten(1).amax(1) > 1e-2
        return torch.where(off[:, None], RowMean(6)(x), self.model(x))


class OffLattice(Wrapper):
    """Right wherever a pixel is no multiple of 1/16, by another row; the lattice is wider than a step."""

    name = "off-lattice"

    def logits(self, x, draw):
        off = (16 * x - (16 * x).round()).abs().flatten(1).amax(1) > 0.15
        return torch.where(off[:, None], RowMean(6)(x), self.model(x))


def in_sixteenths():
    """Labelled images of 17 levels: row 0 says the class by a margin of 1/32, or of 3/16, row 6 by 5/16."""
    y = torch.arange(N) % 2
    sign = (2 * y - 1).float()
    x = torch.full((N, 1, 8, 8), 8 / 16)
    near = torch.arange(N) < N // 2
    x[:, 0, 0] += torch.where(near[:, None], torch.arange(8) % 2 / 16, 3 / 16) * sign[:, None]
    x[:, 0, 6] += (sign * 5 / 16)[:, None]
    x[:, 0, 2] += (torch.arange(N)[:, None] >> torch.arange(8)) % 2 / 16  # each image is another
    return x, y


def labelled(n=N):
    """Row 0 says the class by a margin of 0.05 (for half of the examples 0.15), row 6 by one of 0.3."""
    y = torch.arange(n) % 2
    sign = (2 * y - 1).float()
    x = torch.full((n, 1, 8, 8), 128 / 255)
    near = torch.where(torch.arange(n) < n // 2, 13 / 255, 38 / 255)
    x[:, 0, 0] += (sign * near)[:, None]
    x[:, 0, 6] += (sign * 77 / 255)[:, None]
    x[:, 0, 2] += (torch.arange(n)[:, None] >> torch.arange(8)) % 2 / 255  # each image is another
    return x, y


def run_of(
    tmp_path,
    *defences,
    attacks=("fgsm", "pgd-5"),
    name="run",
    models=None,
    listener=None,
    images=None,
    checks=False,
    **options,
):
    data = dataset_in_memory(images or labelled(), name="rows", source="a test")
    brought = InMemory(data, models or {"rows": RowMean()}, {defence.name: defence for defence in defences})
    config = EvalConfig(
        checkpoints=(),
        attacks=attacks,
        eps=options.pop("eps", (EPS,)),
        batch_size=(8,),
        draws=2,
        selection_draws=2,
        threads=1,
        out=tmp_path / name,
        **options,
    )
    config = with_checks(config) if checks else config
    return load_run(evaluate(config, listener, in_memory=brought))


def accuracy(run, defence, attack, column="accuracy"):
    table = run.summary[(run.summary.defence == defence) & (run.summary.threat == "batch/unknown")]
    table = table[table.eps <= EPS]  # checks measure at a larger one, too
    (found,) = table[table.attack == attack][column]
    return found


def attacks_on(run, defence):
    return {row.attack for row in run.rows if row.case.subject.defence == defence}


def test_a_plugin_with_its_checkpoints_classes_reads_its_checkpoints_number(tmp_path):
    run = run_of(tmp_path, LyingGradients)
    assert accuracy(run, "lying", "pgd-5") == 1.0
    assert accuracy(run, "standard", "ensemble") == 0.5
    assert accuracy(run, "lying", "ensemble") == 0.5
    assert any(name.startswith("from:standard/") for name in attacks_on(run, "lying"))


def test_a_plugin_meets_its_checkpoint_without_standard_inference_too(tmp_path):
    run = run_of(tmp_path, LyingGradients, standard=False)
    assert {row.case.subject.defence for row in run.rows} == {"lying"}
    assert accuracy(run, "lying", "from:standard/transfer-pgd-20") == 0.5
    assert accuracy(run, "lying", "ensemble") == 0.5


def test_a_defence_that_notices_corners_of_the_ball_is_caught_beside_them(tmp_path):
    """Attacks by labels alone end at corners: those in parts of the ball do not, and are among the attacks by
    default.
    """
    run = run_of(tmp_path, CornersOnly, attacks=("fgsm", "rays-50", "parts-60"), standard=False)
    assert accuracy(run, "corners", "fgsm") == accuracy(run, "corners", "rays-50") == 1.0
    assert accuracy(run, "corners", "parts-60") == 0.5


def test_a_defence_that_notices_pixels_off_the_grid_is_caught_on_it(tmp_path):
    run = run_of(tmp_path, OffGrid, attacks=("fgsm",), standard=False)
    assert accuracy(run, "off-grid", "fgsm") == 1.0
    assert accuracy(run, "off-grid", "from:off-grid/fgsm+bits=8") == 0.5
    assert accuracy(run, "off-grid", "ensemble") == 0.5
    assert "from:off-grid/fgsm+bits=8" in (run.path / "summary.csv").read_text()


def test_a_defence_that_notices_pixels_the_data_cannot_have_is_caught_on_their_levels(tmp_path):
    images = in_sixteenths()
    run = run_of(tmp_path, OffLattice, attacks=("fgsm",), standard=False, images=images, checks=True)
    assert accuracy(run, "off-lattice", "from:off-lattice/fgsm+bits=8") == 1.0
    assert accuracy(run, "off-lattice", "from:off-lattice/fgsm+levels=16") == 0.5
    assert accuracy(run, "off-lattice", "ensemble") == 0.5
    below = run_of(tmp_path, OffLattice, attacks=("fgsm",), name="below", images=images, eps=(0.06,))
    assert not any("levels" in attack for attack in attacks_on(below, "off-lattice"))


def test_what_is_submitted_does_not_depend_on_other_checkpoints(tmp_path):
    alone, beside = (
        run_of(tmp_path, OffGrid, models=models, attacks=("pgd-5",), name=str(len(models)))
        for models in ({"rows": RowMean()}, {"rows": RowMean(), "other": RowMean(6)})
    )
    submitted = [
        {
            row.attack
            for row in run.rows
            if row.case.subject.checkpoint == "rows" and row.attack.startswith("from:")
        }
        for run in (alone, beside)
    ]
    assert submitted[0] == submitted[1] and "from:standard/pgd-5" in submitted[0]


class Bent(RowMean):
    """On which attacks that differ find different inputs; half of the examples are out of reach."""

    def forward(self, x):
        waves = 0.02 * torch.sin(20 * x.flatten(1)).mean(1, keepdim=True)
        return super().forward(x) + torch.cat([waves, -waves], 1)


class Made(Listener):
    """Remembers whose inputs were made again."""

    def __init__(self):
        self.made = []

    def inputs_made(self, unit, number):
        self.made.append((unit.case.attack, number))


def test_a_finished_folder_gets_another_defence_and_makes_again_what_is_submitted_to_it(tmp_path):
    options = {"attacks": ("fgsm", "pgd-5", "transfer-pgd-5")}

    def made_for(*defences):
        heard = Made()
        run_of(tmp_path, listener=heard, defence=defences, models={"bent": Bent()}, **options)
        return heard.made

    assert made_for("rci:N=12") == []
    made = made_for("rci:N=12", "noise:sigma=0.01")
    assert [number for _, number in made] == list(range(1, len(made) + 1))
    assert {"fgsm", "pgd-5", "transfer-pgd-5"} >= {name for name, _ in made} != set()


def outcomes_of(run):
    keys = ["defence", "attack", "purpose", "draw", "batch", "slot"]
    return run.outcomes.astype({"attack": str, "defence": str}).sort_values(keys, ignore_index=True)


def test_outcomes_do_not_depend_on_where_the_inputs_come_from(tmp_path, monkeypatch):
    """From the store, from a stage of the run that is over, and through a stop in between."""
    options = {"defence": ("rci:N=12",), "attacks": ("fgsm", "pgd-5", "transfer-pgd-5")}
    first = run_of(tmp_path, **options)
    before = digests(first.path)
    assert any("+bits=8" in row.attack for row in first.rows)
    units = {name: unit.rows for name, unit in units_in(first.path / TOGETHER).items()}
    own = {
        name: rows
        for name, rows in units.items()
        if not rows.column("attack").to_pandas().astype(str).str.startswith("from:").any()
    }
    assert 0 < len(own) < len(units)
    write_units(first.path / TOGETHER, own)  # the store is gone: the inputs must be made again
    again = run_of(tmp_path, **options)
    assert digests(again.path) == before
    assert not (again.path / "perturbed").exists()

    class Stops(Listener):
        def begun(self, step, open_inputs):
            if step.rung == "cross-examination":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path, name="stopped", listener=Stops(), **options)
    assert list((tmp_path / "stopped" / "perturbed").iterdir())
    stopped = run_of(tmp_path, name="stopped", **options)
    assert digests(stopped.path) == before
    workers = run_of(tmp_path, name="workers", workers=2, **options)
    pd.testing.assert_frame_equal(outcomes_of(workers), outcomes_of(first), check_exact=True)
