"""Later commands in a run folder: outcomes that it holds never stop counting."""

import shutil
from functools import partial
from unittest.mock import Mock

import pytest

from benchmarks.errors.zoo_judged import evaluate_entry
from robustbench_coded.evaluation.session import evaluate as session
from robustbench_coded.evaluation.session import planning, run_plan
from robustbench_coded.evaluation.session.evaluation import Evaluation
from robustbench_coded.evaluation.session.planning import planned_evaluation
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports import write
from robustbench_coded.reports.run.next_command import next_command
from robustbench_coded.run import load_run
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.schema.words import CLEAN, CONTROLS, VerdictName
from tests.evaluation.session.test_steps import given
from tests.run_folders import computed, steps

ALONE = {"defence": (), "attacks": "pgd-10"}
WEAK = "fgsm@0.049"  # it leaves all images, and noise half of those that eps reaches
NEAR = 0.95  # so that what noise leaves is too near the floor to tell on 256 images


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch):
    """No report and no figures."""
    monkeypatch.setattr(write, "write_reports_of", lambda run, *, final=False: None)


def command(out, **more):
    """Evaluates into the folder, as one more command."""
    config, in_memory = given(out, **(ALONE | more))
    return load_run(session.evaluate(config, None, in_memory))


def units(run):
    return {(record.case, unit) for record in run.manifest.cases for unit in record.units}


def left(run):
    """What the ensemble leaves of each subject under each threat model, in the inputs' own batches where
    these leave less than random ones, and on how many images.
    """
    return {
        judgement.case: (own[0] if (own := accuracy.own) else accuracy.estimate, judgement.examples)
        for judgement in run.judgements
        if (accuracy := judgement.verdict.accuracy) is not None
    }


def assert_all_counts(before, after):
    """Every outcome of ``before`` counts in ``after``, which leaves no more on the same images."""
    assert units(before) <= units(after)
    later = left(after)
    for case, (accuracy, examples) in left(before).items():
        assert later[case][1] >= examples
        assert later[case][1] > examples or later[case][0] <= accuracy


def break_it(model, x, y, eps):
    """An attack of the user's, which a later command does not name."""
    return x + eps * (1 - 2.0 * y).view(-1, 1, 1, 1)


@pytest.mark.parametrize("strong", ["pgd-10", f"{__name__}:break_it"])
def test_a_command_that_needs_more_images_mends_no_verdict(strong, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CHEAP_IMAGES", 0)
    alone = command(tmp_path / "alone", attacks=WEAK, near=NEAR)
    assert alone.judgements[0].verdict.name == VerdictName.NOT_SETTLED and alone.judgements[0].examples > 256
    first = command(tmp_path / "run", attacks=strong, near=NEAR)
    assert list(left(first).values()) == [(10 / 256, 256)]  # those that eps does not reach
    second = command(tmp_path / "run", attacks=WEAK, near=NEAR)
    assert second.judgements[0].verdict.name == VerdictName.BROKEN
    assert_all_counts(first, second)


@pytest.fixture(scope="module")
def on_all_images(tmp_path_factory):
    """A run that needed all images, with perturbed inputs that were submitted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "write_reports_of", lambda run, *, final=False: None)
        patch.setattr(planning, "CHEAP_IMAGES", 0)
        return command(tmp_path_factory.mktemp("all") / "run", attacks="pgd-10,fgsm", near=0.45).path


@pytest.mark.parametrize("later", [{}, {"all": True}, {"until": "settled"}])
def test_a_command_keeps_the_images_and_what_was_submitted(later, on_all_images, tmp_path):
    """The attack leaves so much that 256 images are enough for it; what it submits has names of before."""
    shutil.copytree(on_all_images, tmp_path / "run")
    first = load_run(on_all_images)
    assert {examples for _, examples in left(first).values()} == {640}
    assert_all_counts(first, command(tmp_path / "run", near=0.45, attacks="fgsm@0.01", **later))


def test_a_folder_keeps_its_checks(tmp_path):
    command(tmp_path / "run", near=0.3, checks=True)
    for checks in (True, False):
        more = {"attacks": "fgsm", "near": 0.3, "checks": checks}
        config, in_memory = given(tmp_path / "run", **(ALONE | more))
        prepared, path = session.made_ready(config, in_memory)
        assert planned_evaluation(prepared, load_manifest(path), path).plan.checks
    assert not planned_evaluation(prepared, None, path).plan.checks


def stopped(out, after, **more):
    """A command that is stopped after so many units, if it has more to run."""
    commit, left_to_do = run_plan.Work.commit, [after]

    def until_stopped(self, outcome):
        if not left_to_do[0]:
            raise KeyboardInterrupt
        left_to_do[0] -= 1
        commit(self, outcome)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_plan.Work, "commit", until_stopped)
        command(out, **more)


def test_a_changed_command_that_is_stopped_keeps_what_it_would_replace(tmp_path):
    first = command(tmp_path / "run", near=0.3, defence=("noise:sigma=0.1",))
    stopped(tmp_path / "run", 3, near=0.3, defence=("noise:sigma=0.1",), draws=3)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):  # nothing is left to run
        stopped(tmp_path / "run", 0, near=0.3, defence=("noise:sigma=0.1",))
    assert units(load_run(tmp_path / "run")) == units(first)


def test_a_later_command_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CHEAP_IMAGES", 0)
    command(tmp_path / "run", near=0.3, checks=True)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    second = {"attacks": "fgsm,square-50", "near": 0.3}
    whole = command(tmp_path / "whole", **second)
    assert len(units(whole)) > len(units(load_run(tmp_path / "run"))) + 2
    stopped(tmp_path / "run", 2, **second)
    again = command(tmp_path / "run", **second)
    assert again.manifest.cases == whole.manifest.cases
    assert steps(tmp_path / "run") == steps(tmp_path / "whole")


def test_a_finished_folder_stays_finished_where_a_repeated_command_is_stopped(tmp_path):
    command(tmp_path / "run", near=0.3, checks=True)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluation, "results", Mock(side_effect=KeyboardInterrupt))
        command(tmp_path / "run", near=0.3, checks=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize("saved", [(True, False, True), (False, True, False)])
def test_stored_inputs_stay_and_are_made_once(saved, tmp_path):
    """What is stored beside the figures changes none of them."""
    runs = [command(tmp_path / "run", near=0.3, save_adversarials=save) for save in saved]
    attacked = [unit for case, unit in units(runs[0]) if case.attack != CLEAN]
    assert sorted(computed(tmp_path / "run")) == sorted(
        [unit for _, unit in units(runs[0])] + ([] if saved[0] else attacked)
    )
    assert attacked and all(unit in PerturbationStore(tmp_path / "run") for unit in attacked)
    assert runs[0].manifest.cases == runs[1].manifest.cases == runs[2].manifest.cases


@pytest.mark.parametrize(("first", "looks"), [({}, 2), ({"all": True}, 0)])
def test_a_command_on_all_images_pays_for_the_look_of_an_earlier_one(first, looks, tmp_path, monkeypatch):
    """256 of 640 images were enough for the first; so each end errs in 1.25% at the second look, too."""
    monkeypatch.setattr(planning, "CHEAP_IMAGES", 0)
    before = command(tmp_path / "run", near=0.3, **first)
    assert set(dict(left(before).values()).values()) == {256 if looks else 640}
    assert max(row.examples for row in before.rows) == (256 if looks else 640)
    for record in command(tmp_path / "run", near=0.3, all=True).manifest.cases:
        assert record.looks == (0 if record.case.attack in CONTROLS else looks)


def next_options(run):
    """The printed next step as options of one more command; None where it leaves this folder."""
    open_ = [judgement for judgement in run.judgements if judgement.verdict.name == VerdictName.NOT_SETTLED]
    step = next_command(run, open_).command
    options = eval(f"dict{step.removeprefix('run.again')}") if step else {"out": ""}
    return None if "out" in options else options


def follow_steps(evaluate):
    """The next steps of an open run, and then a weak attack; ``evaluate(**options)`` gives the run."""
    run = evaluate()
    assert VerdictName.NOT_SETTLED in [judgement.verdict.name for judgement in run.judgements]
    for step in (next_options, lambda run: {"attacks": "fgsm"}):
        if options := step(run):
            later = evaluate(**options)
            assert_all_counts(run, later)
            run = later


def test_no_next_step_leaves_anything_out(tmp_path):
    follow_steps(partial(command, tmp_path / "run", near=0.3, examples=64))


def test_attacks_named_alone_are_followed_by_those_that_open_checks_need(tmp_path):
    """Not by --all, which is refused beside --until."""
    run = command(tmp_path / "run", near=0.3, examples=64, until="settled")
    assert run.judgements[0].verdict.rule == "open check"
    attacks = next_options(run)["attacks"].split(",")
    assert attacks[0] == "pgd-10" and len(attacks) > 1


# Of reports/zoo, what is open on so few images that all of them take minutes.
OPEN = (
    *("one-hot-0.1", "pinned-0.1", "lifted-0.1", "sines-scaled", "sines-again-scaled"),
    *("sines-small-scaled", "bumps-scaled", "rci-linear-wide", "rci-linear", "half-batch", "smoothing"),
)


@pytest.mark.long
@pytest.mark.parametrize("name", OPEN)
def test_no_next_step_of_the_zoo_leaves_anything_out(name, tmp_path):
    def evaluate(attacks="paper,adaptive", **options):
        return evaluate_entry(name, tmp_path / "run", n=128, attacks=attacks.split(","), **options).run

    follow_steps(evaluate)
