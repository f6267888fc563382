"""Attacks of the adaptive preset that run only where the others leave something."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.presets import COUPLED, RELAXED
from robustbench_coded.data.in_memory import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.attack_choice import attack_options
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.measured import MeasuredAttack
from robustbench_coded.evaluation.planning.plan import rows_for
from robustbench_coded.evaluation.planning.second_stage import in_two_stages, leading, second_stage
from robustbench_coded.results.run import load_run
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.session.evaluate import evaluate
from robustbench_coded.session.listener import Listener

pytestmark = pytest.mark.long

N, SECOND = 32, "apgd-mt-4"


class Mean(nn.Module):
    """Two classes by the mean of all pixels, 0.1 from the boundary."""

    def forward(self, x):
        score = 8 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


class Drawing:
    """Shifts its input a little, at random."""

    randomised, batch_dependent, base = True, False, None

    def __init__(self, model):
        self.model = model

    def sample(self, generator, k):
        return torch.rand((), generator=generator) * 1e-3

    def logits(self, x, draw):
        return self.model(x + draw)


class Weak(Drawing):
    name = "weak"


class Blunt(Drawing):
    """Reads the one pixel that cannot be moved far enough."""

    name = "blunt"

    def logits(self, x, draw):
        return self.model(x[:, :, :1, :1] + draw)


def config(tmp_path, **options):
    chosen = {"attacks": ("pgd-5", SECOND), "second_attacks": (SECOND,)} | options
    return EvalConfig(
        checkpoints=(), eps=(0.3,), batch_sizes=(8,), draws=2, selection_draws=2, threads=1, **chosen,
        out=tmp_path / "run",
    )  # fmt: skip


def brought(*defences):
    y = torch.arange(N) % 2
    x = (0.5 + 0.1 * (2 * y - 1).float())[:, None, None, None].expand(N, 1, 4, 4).clone()
    x[:, 0, 0, 0] = y.float()
    return InMemory(
        dataset_in_memory((x, y), name="rows", source="a test"),
        {"mean": Mean()},
        {defence.name: defence for defence in defences},
    )


def a_row(attack="pgd-5"):
    subject = Subject(
        "mean", "rci:N=16", "rci", 8, 16, randomised=True, batch_dependent=True, has_base=True, images=16
    )
    return AttackCase(subject, WHOLE_BATCH, attack, "linf", 0.3, "pixel", None)


def attacks_on(run, defence):
    return {row.key.attack for row in run.rows if row.key.defence == defence}


def notes_about(run, text):
    return [note for note in run.manifest.notes if text in note]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run on one defence that loses everything to the first attack, and on one that loses nothing."""
    return load_run(evaluate(config(tmp_path_factory.mktemp("whole")), in_memory=brought(Weak, Blunt)))


def test_they_run_where_something_is_left_and_on_a_base_model_that_never_draws(whole):
    left = {row.key.defence: row.accuracy for row in whole.rows if row.key.attack == "pgd-5"}
    assert left["weak"] == 0 and left["blunt"] == 1
    assert SECOND not in attacks_on(whole, "weak")
    # Nothing is left of the base model, either, but what breaks it is submitted to a defence that stands.
    assert SECOND in attacks_on(whole, "blunt") and SECOND in attacks_on(whole, "standard")
    (note,) = notes_about(whole, "Nothing was left")
    assert "weak on mean" in note and SECOND in note
    assert "weak on mean" in (whole.path / "report.md").read_text() + (whole.path / "details.md").read_text()


def test_what_is_named_runs_everywhere_and_takes_the_note_back(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    run = load_run(evaluate(config(tmp_path, attacks=(SECOND,), second_attacks=()), in_memory=brought(Weak)))
    assert SECOND in attacks_on(run, "weak")
    assert not notes_about(run, "Nothing was left")


def test_a_claim_about_one_and_other_threat_models_do_not_wait(tmp_path):
    row = a_row(attack=SECOND)
    assert in_two_stages(config(tmp_path), [row]) == ([], [row])
    assert in_two_stages(config(tmp_path, claim=0.5, claim_attack=SECOND), [row]) == ([row], [])
    victim = replace(row, threat=ThreatModel("victim", "unknown"))
    assert in_two_stages(config(tmp_path, inputs=("batch", "victim")), [victim]) == ([victim], [])
    alone = replace(row, subject=replace(row.subject, randomised=False, batch_dependent=False))
    assert in_two_stages(config(tmp_path), [alone]) == ([], [alone])


@pytest.mark.parametrize(
    "share, right, settled, begun, runs",
    [
        (0.0, 0, False, False, False),
        (0.004, 1, False, False, True),
        (0.004, 1, True, False, False),
        (0.006, 2, True, False, True),
        (0.0, 0, True, True, True),
    ],
)
def test_half_a_point_counts_as_nothing_only_where_the_word_is_settled(share, right, settled, begun, runs):
    row = a_row(attack=SECOND)
    so_far = MeasuredAttack(a_row(), (), share, right, None)
    found = {(row.subject.key, row.budget)} if settled else set()
    measured = {(row.subject, row.budget): [so_far]}
    rows, notes = second_stage([row], measured, lambda: found, [row.key] if begun else [])
    assert rows == [row] * runs and len(notes) == (not runs)


def test_without_outcomes_nobody_is_spared():
    row = a_row(attack=SECOND)
    assert second_stage([row], {}, set)[0] == [row]


def test_the_same_after_an_interrupt(whole, tmp_path):
    class Stop(Listener):
        def unit_done(self, unit, right, answers):
            if unit.row.attack == SECOND and unit.row.subject.label == "blunt":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(config(tmp_path), Stop(), in_memory=brought(Weak, Blunt))
    again = load_run(evaluate(config(tmp_path), in_memory=brought(Weak, Blunt)))
    rows, others = (json.loads((run.path / "run.json").read_text())["rows"] for run in (whole, again))
    assert rows == others and whole.manifest.notes == again.manifest.notes


@pytest.mark.parametrize("defended, right, runs", [(False, 1, False), (True, 1, True), (True, 0, False)])
def test_a_base_model_that_draws_is_attacked_in_full_unless_nothing_is_left(defended, right, runs):
    bare = replace(a_row().subject, spec="standard", label="standard", batch_dependent=False)
    row = replace(a_row(attack=SECOND), subject=bare)
    measured = {(bare, row.budget): [MeasuredAttack(replace(a_row(), subject=bare), (), 0.004, right, None)]}
    if defended:
        measured[a_row().subject, row.budget] = [MeasuredAttack(a_row(), (), 0.5, 9, None)]
    rows, _ = second_stage([row], measured, lambda: {(bare.key, row.budget)})
    assert rows == [row] * runs


@pytest.mark.parametrize("right, settled, runs", [(9, False, True), (0, False, False), (1, True, False)])
def test_a_deterministic_base_model_is_spared_only_where_its_defences_are(right, settled, runs):
    drawn = a_row()
    bare = replace(drawn.subject, spec="standard", label="standard", batch_dependent=False, randomised=False)
    row = replace(a_row(attack=SECOND), subject=bare)
    measured = {
        (bare, row.budget): [MeasuredAttack(replace(drawn, subject=bare), (), 0.0, 0, None)],
        (drawn.subject, row.budget): [MeasuredAttack(drawn, (), right / 1000, right, None)],
    }
    found = {(drawn.subject.key, row.budget)} if settled else set()
    assert second_stage([row], measured, lambda: found)[0] == [row] * runs


def test_where_the_gradient_is_hidden_relaxed_attacks_come_first(tmp_path):
    options = config(tmp_path, **attack_options())
    alone = replace(a_row().subject, batch_dependent=False)
    hidden = replace(alone, hides_gradient=True)
    shown, relaxed, longer = (
        replace(a_row(attack=name), subject=alone) for name in ("eot10-pgd-20", *RELAXED)
    )
    assert in_two_stages(options, [shown, relaxed, longer]) == ([shown], [relaxed, longer])
    rows = [replace(row, subject=hidden) for row in (shown, relaxed, longer)]
    assert in_two_stages(options, rows) == ([rows[1]], [rows[0], rows[2]])
    none = [replace(row, subject=replace(hidden, relaxable=False)) for row in (shown, longer)]
    assert in_two_stages(options, none) == ([none[0]], [none[1]])
    named = config(tmp_path, **attack_options(["adaptive", "eot10-pgd-20"]))
    assert in_two_stages(named, rows) == (rows[:2], [rows[2]])


def test_where_inputs_are_answered_together_the_margin_comes_first_and_nowhere_else_at_all(tmp_path):
    options = config(tmp_path, **attack_options())
    coupled = a_row().subject
    rows = [a_row(attack=name) for name in ("eot10-pgd-20", *COUPLED)]
    assert in_two_stages(options, rows) == ([], rows)
    assert leading(options, rows) == [rows[1]]
    assert leading(options, [rows[0], rows[2]]) == [rows[0], rows[2]]  # the margin ran already
    elsewhere = [replace(row, eps=0.1) for row in rows[2:]]
    assert leading(options, [*rows, *elsewhere]) == [rows[1], *elsewhere]
    alone = replace(coupled, batch_dependent=False)
    planned, _ = rows_for(options, [coupled, alone], [0.3])
    assert {row.attack for row in planned if row.subject == coupled} >= set(COUPLED)
    assert not {row.attack for row in planned if row.subject == alone} & set(COUPLED)
    named = config(tmp_path, **attack_options(["adaptive", COUPLED[0]]))
    assert COUPLED[0] in {row.attack for row in rows_for(named, [alone], [0.3])[0]}


def test_presets_defer_what_nobody_wrote():
    second = attack_options()["second_attacks"]
    assert {"pgd-100+momentum=1", "apgd-mt-20", "transfer-apgd-mt-20"} <= set(second)
    assert not {"fixed-pgd-10", "aware-pgd-10", "transfer-pgd-20", "pgd-100"} & set(second)
    assert "apgd-mt-20" not in attack_options(["adaptive", "apgd-mt-20"])["second_attacks"]
    assert attack_options(["full"])["second_attacks"] == () == attack_options(["paper"])["second_attacks"]
