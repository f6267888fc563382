import io

import numpy as np
import pytest
from msgspec.structs import replace

from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.summary import ImagesSpent, summary_frame, summary_rows


def summarise(outcomes, planned, costs=None):
    return summary_frame(summary_rows(case_results(outcomes, planned), costs or {}))


def random(chance, examples=160, draws=10, seed=0):
    return np.random.default_rng(seed).random((examples, draws)) < chance


@pytest.fixture
def run(evaluation):
    """RCI under four attacks, two of which break a quarter of each batch, beside its base model."""
    run = evaluation()
    half = np.full((160, 1), 0.9)
    first, second = half.copy(), half.copy()
    first[::4], second[1::4] = 0, 0
    base = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
    seeds = iter(range(100))
    for defence, draws in (({}, 10), (base, 1)):
        for attack, chance in (
            ("clean", 0.9),
            ("random-sign", 0.9),
            ("fgsm", half),
            ("pgd-10", first),
            ("pgd-100", second),
        ):
            chosen = None if defence else random(chance, draws=draws, seed=next(seeds))
            run.add(attack, random(chance, draws=draws, seed=next(seeds)), chosen, **defence)
    for attack in ("aware-pgd-10", "aware-pgd-20"):
        run.add(attack, random(0.7, draws=2, seed=next(seeds)), threat="batch/known")
    return run


@pytest.fixture
def table(run):
    return summarise(*run.parts())


def line(table, attack, defence="rci", threat="batch/unknown"):
    found = table[(table.attack == attack) & (table.defence == defence) & (table.threat == threat)]
    assert len(found) == 1
    return found.iloc[0]


def right(run, attack, threat="batch/unknown", purpose="scoring", defence="rci"):
    """[examples, draws], straight from the frame."""
    frame = run.frames()[0].query(f"attack == '{attack}' and threat == '{threat}' and purpose == '{purpose}'")
    frame = frame[frame.defence == defence]
    return (frame.prediction == frame.label).groupby([frame.example, frame.draw]).first().unstack().to_numpy()


def test_rows_are_those_of_the_contract(table):
    attacks = ["clean", "random-sign", "fgsm", "pgd-10", "pgd-100", "strongest", "ensemble"]
    rci = table[(table.defence == "rci") & (table.threat == "batch/unknown")]
    assert rci.attack.tolist() == attacks
    assert table[table.defence == "standard"].attack.tolist() == attacks
    known = table[table.threat == "batch/known"].attack.tolist()
    assert known == ["aware-pgd-10", "aware-pgd-20", "strongest", "ensemble"]


def test_the_unknown_ensemble_is_chosen_and_scored_on_different_draws(run, table):
    # Of each batch one attack leaves 67.5%, and so does the other; both at once cannot be submitted.
    assert np.isnan(line(table, "ensemble").ci_low) and line(table, "ensemble").batches == 10
    names = ["fgsm", "pgd-10", "pgd-100", "random-sign", "clean"]
    seen = np.stack([right(run, name, purpose="selection").sum(axis=1) for name in names])
    best = seen.sum(axis=1).argmin()
    seen = seen.reshape(5, 10, 16).sum(axis=2)
    chosen = np.where(seen[best] == seen.min(axis=0), best, seen.argmin(axis=0)).repeat(16)
    scored = np.stack([right(run, name) for name in names])[chosen, np.arange(160)]
    assert line(table, "ensemble").accuracy == pytest.approx(scored.mean(), abs=1e-6)
    assert line(table, "ensemble").accuracy_every_draw == pytest.approx(scored.all(axis=1).mean(), abs=1e-6)
    assert line(table, "strongest").accuracy == line(table, names[best]).accuracy
    assert line(table, "ensemble").strongest_attack == names[best]
    assert line(table, "ensemble").selection_draws == 10


def test_a_deterministic_ensemble_is_the_worst_case(run, table):
    names = ["fgsm", "pgd-10", "pgd-100", "random-sign", "clean"]
    worst = np.min([right(run, name, defence="standard") for name in names], axis=0)
    assert line(table, "ensemble", "standard").accuracy == pytest.approx(worst.mean(), abs=1e-6)


def test_who_knows_the_draw_also_has_the_attacks_of_who_does_not(run, table):
    aware = [right(run, name, "batch/known") for name in ("aware-pgd-10", "aware-pgd-20")]
    unknown = [right(run, name)[:, :2] for name in ("fgsm", "pgd-10", "pgd-100", "random-sign", "clean")]
    made = line(table, "ensemble", threat="batch/known")
    of_batches = [table.reshape(10, 16, 2).mean(axis=1) for table in aware + unknown]
    assert made.accuracy == pytest.approx(np.min(of_batches, axis=0).mean(), abs=1e-6)
    lowest = min(table.mean() for table in aware + unknown)
    assert line(table, "strongest", threat="batch/known").accuracy == pytest.approx(lowest, abs=1e-6)
    assert made.draws == 2


def test_clean_figures_are_of_the_same_examples_and_draws(run, evaluation):
    victims = np.arange(3, 160, 10)
    run.add(
        "transfer-pgd-20",
        random(0.1, 16, seed=1),
        random(0.1, 16, seed=2),
        examples=victims,
        threat="victim/unknown",
    )
    table = summarise(*run.parts())
    clean = right(run, "clean")
    one = line(table, "transfer-pgd-20", threat="victim/unknown")
    assert one.clean_accuracy == pytest.approx(clean[victims].mean(), abs=1e-6)
    assert one.unit == "example" and one.status == "done" and one.examples == 16
    known = line(table, "aware-pgd-10", threat="batch/known")
    assert known.clean_every_draw == pytest.approx(clean[:, :2].all(axis=1).mean(), abs=1e-6)


def test_a_victim_may_be_left_alone_but_gets_no_other_batch_s_noise(evaluation):
    run = evaluation()
    run.add("clean", np.zeros((32, 2)), np.zeros((32, 2)))
    run.add("random-sign", np.zeros((32, 2)), np.zeros((32, 2)))
    run.add(
        "transfer-pgd-20", np.ones((4, 2)), np.ones((4, 2)), examples=[1, 9, 17, 25], threat="victim/unknown"
    )
    table = summarise(*run.parts())
    made = line(table, "strongest", threat="victim/unknown")
    assert (made.accuracy, made.strongest_attack) == (0.0, "clean")


def test_what_is_missing_is_not_counted_as_right(evaluation):
    run = evaluation()
    run.add("clean", np.ones((32, 2)), np.ones((32, 2)))
    run.add("fgsm", np.ones((32, 2)), np.ones((32, 2)))
    run.add("pgd-10", np.zeros((16, 2)), np.zeros((16, 2)), planned=32)
    outcomes, planned = run.parts()
    never = replace(planned[-1], case=planned[-1].case.of_attack("pgd-100"))
    table = summarise(outcomes, [*planned, never])
    half, none, made = (line(table, name) for name in ("pgd-10", "pgd-100", "ensemble"))
    assert (half.examples, half.accuracy, half.status) == (16, 0.0, "incomplete")
    assert (none.examples, none.status) == (0, "incomplete") and np.isnan(none.accuracy)
    assert (made.examples, made.accuracy, made.status) == (16, 0.0, "incomplete")
    assert line(table, "fgsm").status == "done"


def test_an_ensemble_waits_for_every_planned_attack(evaluation):
    run = evaluation().add("pgd-10", np.ones((32, 2)), np.ones((32, 2)))
    outcomes, planned = run.parts()
    table = summarise(
        outcomes, [*planned, *(replace(record, case=record.case.of_attack("pgd-100")) for record in planned)]
    )
    assert (line(table, "ensemble").examples, line(table, "ensemble").status) == (32, "incomplete")


def test_an_example_counts_once_all_its_draws_are_there(evaluation):
    run = evaluation().add("clean", np.ones((32, 4)), np.ones((32, 4)))
    outcomes, planned = run.parts()
    lacking = outcomes[~((outcomes.example == 5) & (outcomes.draw == 3))]
    row = line(summarise(lacking, planned), "clean")
    assert (row.examples, row.draws, row.status) == (31, 4, "incomplete")


def test_costs_are_per_scored_example_and_the_ensemble_bears_all_of_them(run):
    outcomes, planned = run.parts()
    costs = {case.case: ImagesSpent(2 * 160 * 30, 2 * 160 * 20) for case in planned}  # two units a row
    table = summarise(outcomes, planned, costs)
    assert (line(table, "pgd-10").forwards_per_example, line(table, "pgd-10").backwards_per_example) == (
        60,
        40,
    )
    assert line(table, "strongest").forwards_per_example == 60
    assert line(table, "ensemble").forwards_per_example == 5 * 60
    assert line(table, "ensemble", threat="batch/known").backwards_per_example == 7 * 40


def test_the_file_depends_on_nothing_but_the_outcomes(run):
    def written(outcomes, planned):
        text = io.StringIO()
        summarise(outcomes, planned).to_csv(text, index=False)
        return text.getvalue()

    outcomes, planned = run.parts()
    shuffled = outcomes.sample(frac=1, random_state=0).astype({"attack": "category", "defence": "category"})
    other_order = shuffled[shuffled.columns[::-1]].astype({"prediction": "int16", "example": "int32"})
    assert written(outcomes, planned) == written(other_order, planned)


def test_an_empty_run_has_a_table(run):
    outcomes, planned = run.parts()
    table = summarise(outcomes.iloc[:0], planned)
    assert set(table.status) == {"incomplete"} and table.accuracy.isna().all()


def test_neither_disjoint_batches_nor_a_known_draw_have_an_interval(table):
    tied = (table.defence == "rci") & (table.interval_kind.isna())
    assert tied.sum() == (table.defence == "rci").sum() and table[~tied].ci_low.notna().all()
    assert table[tied][["ci_low", "ci_high"]].isna().all(axis=None) and (table[tied].batches == 10).all()
    assert (table[~tied].batches == 0).all()
