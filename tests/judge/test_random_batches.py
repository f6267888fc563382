"""What answers in random batches say of a row, of an ensemble that contains it, and of a gain."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.judge.anytime import RandomBatches, upper_end
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.paired import paired_difference
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import CaseRecord

TAIL, K, IMAGES, BATCHES = 0.025, 8, 160, 200


def scored(right, images=IMAGES, batches=BATCHES):
    """``right(image, batch)`` in random batches of K images."""
    rng = np.random.default_rng(0)
    members = np.concatenate([rng.permutation(images)[:K] for _ in range(batches)])
    number = np.repeat(np.arange(1, batches + 1), K)
    return RandomBatches(members, number, right(members, number))


def test_none_right_leaves_what_as_many_batches_or_images_leave():
    none = scored(lambda image, batch: image < 0)
    assert none.interval(TAIL) == (0.0, upper_end(np.zeros(IMAGES), TAIL))  # fewer images than batches
    few = scored(lambda image, batch: image < 0, batches=40)
    assert few.interval(TAIL)[1] == upper_end(np.zeros(40), TAIL)


def test_an_image_that_always_survives_counts_as_an_image_however_many_batches_there_are():
    one = scored(lambda image, batch: image == 3)
    assert one.interval(TAIL)[1] == pytest.approx(upper_end(np.eye(IMAGES)[0], TAIL))


def test_batches_that_survive_as_a_whole_count_as_batches():
    whole = scored(lambda image, batch: batch % 10 == 0)
    assert whole.interval(TAIL)[1] >= upper_end(np.repeat([1.0, 0.0], [20, 180]), TAIL) > 0.15


def test_above_a_base_model_the_base_model_s_own_answers_do_not_count():
    kept = scored(lambda image, batch: image < 16)  # 10%, as the base model keeps them
    base = lambda images: images < 16  # noqa: E731
    low, high = kept.above(base, TAIL)
    assert high == pytest.approx(upper_end(np.zeros(IMAGES), TAIL)) and low < 0
    lost = kept.above(lambda images: images < 80, TAIL)
    assert lost[1] < 0  # it lost 40 points


KEYS = {"checkpoint": "net", "norm": "linf", "eps": 0.1, "eps_space": "pixel", "step_size": None}
RCI = {"defence": "rci", "k": K, "n": 12, "threat": "batch/unknown"}


def planned(attack, **more):
    case = Case.from_columns({**KEYS, **RCI, "attack": attack})
    return CaseRecord(case=case, randomised=True, batch_dependent=True, examples_planned=16, draws=2, **more)


def outcomes(attack, right, purpose, images=16, draws=(0, 1)):
    """Every image in its own batch of the first partition; ``right(image, draw)``."""
    image, draw = (table.ravel() for table in np.meshgrid(np.arange(images), draws))
    return pd.DataFrame(
        {
            **KEYS, **RCI, "attack": attack, "purpose": purpose, "example": image, "label": 1,
            "batch": image // K, "slot": image % K, "draw": draw,
            "prediction": np.where(right(image, draw), 1, 0), "margin": 0.0,
        }
    )  # fmt: skip


def test_an_ensemble_s_upper_end_is_that_of_its_attack_in_random_batches_and_the_population_stands_beside():
    nothing = lambda image, draw: image < 0  # noqa: E731
    rows = [outcomes("transfer-pgd-20", nothing, purpose) for purpose in ("selection", "scoring")]
    rows += [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    before = {
        r.case.attack: r
        for r in case_results(pd.concat(rows), [planned("clean"), planned("transfer-pgd-20")])
    }
    rows += [outcomes("transfer-pgd-20", nothing, "random", draws=range(1, 201))]
    results = case_results(pd.concat(rows), [planned("clean"), planned("transfer-pgd-20")])
    after = {row.case.attack: row for row in results}
    attack, ensemble = (after[name].interval() for name in ("transfer-pgd-20", "ensemble"))
    assert attack == ensemble and ensemble.high == upper_end(np.zeros(16), TAIL)  # of 16 images
    assert ensemble.population == (before["ensemble"].interval().low, before["ensemble"].interval().high)
    assert ensemble.population[1] > 0.6 > ensemble.high  # two batches alone
    assert before["ensemble"].interval().kind == "population" and ensemble.kind == "evaluated images"


@pytest.mark.parametrize(
    ("scored_too", "in_random", "holds"),
    [
        (["pgd-20", "pgd-100"], 0.75, True),
        (["pgd-100"], 0.75, False),  # pgd-20 comes as near, and may be the worst in other batches
        (["pgd-20", "pgd-100"], 1.0, False),  # made together, these inputs do more in their own batches
    ],
)
def test_an_ensemble_s_lower_end_is_theirs_where_all_near_the_strongest_were_scored(
    scored_too, in_random, holds
):
    attacks = ("pgd-20", "pgd-100")
    kept = lambda image, draw: image % 4 > 0  # noqa: E731
    parts = [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    parts += [outcomes(attack, kept, purpose) for attack in attacks for purpose in ("selection", "scoring")]
    alone = case_results(pd.concat(parts), [planned(name) for name in ("clean", *attacks)])
    again = kept if in_random == 0.75 else (lambda image, draw: image >= 0)
    parts += [outcomes(attack, again, "random", draws=range(1, 201)) for attack in scored_too]
    results = case_results(pd.concat(parts), [planned(name) for name in ("clean", *attacks)])
    (before,) = (row.interval() for row in alone if row.case.attack == "ensemble")
    (after,) = (row.interval() for row in results if row.case.attack == "ensemble")
    least = -upper_end(-np.repeat([0.0, 1.0], [4, 12]), TAIL / 2, most=0.0)  # of 16 images
    assert before.estimate == after.estimate == 0.75 and before.low > least
    assert after.low == pytest.approx(least if holds else before.low)


def test_a_gain_and_a_loss_are_bounded_by_the_same_batches():
    standard = {"defence": "standard", "k": None, "n": None}
    base = outcomes("pgd-20", lambda image, draw: image < 4, "scoring", draws=(0,)).assign(**standard)
    kept = [
        outcomes("transfer-pgd-20", lambda image, draw: image < 2, purpose, draws=draws)
        for purpose, draws in (("selection", (0, 1)), ("scoring", (0, 1)), ("random", range(1, 201)))
    ]
    model = {"randomised": False, "batch_dependent": False, "draws": 1}
    cases = [
        CaseRecord(
            case=Case.from_columns({**KEYS, **RCI, **standard, "attack": "pgd-20"}),
            **model,
            examples_planned=16,
        ),
        planned("transfer-pgd-20"),
    ]
    rows = {
        (row.case.subject.defence, row.case.attack): row
        for row in case_results(pd.concat([base, *kept]), cases)
    }
    defence, network = rows["rci", "transfer-pgd-20"], rows["standard", "pgd-20"]
    gain, loss = paired_difference(defence, network), paired_difference(network, defence)
    # Two images of 16 are lost: 14 times 0 and twice -1.
    assert gain.estimate == -0.125 and gain.high == pytest.approx(
        upper_end(np.repeat([0.0, -1.0], [14, 2]), TAIL)
    )
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert gain.kind == loss.kind == "evaluated images"
    assert str(gain).endswith("for the evaluated images)")
    unscored = paired_difference(replace(defence, random_batches=()), network)
    assert unscored.kind == "population" and str(unscored).endswith("for the population)")
