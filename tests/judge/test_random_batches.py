"""What answers in random batches say of a row, of an ensemble that contains it, and of a gain."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

from robustbench_coded.judge.anytime import RandomBatches, upper_end
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.summary import ImagesSpent, summary_rows
from robustbench_coded.schema.case import Case, ThreatModel
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


def results_of(rows, *attacks):
    return {r.case.attack: r for r in case_results(pd.concat(rows), [planned(name) for name in attacks])}


def test_estimate_interval_and_number_of_images_come_from_the_random_batches():
    nothing = lambda image, draw: image < 0  # noqa: E731
    rows = [outcomes("transfer-pgd-20", nothing, purpose) for purpose in ("selection", "scoring")]
    rows += [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    before = results_of(rows, "clean", "transfer-pgd-20")["ensemble"].interval()
    assert (before.kind, before.low, before.high, before.batches) == (None, 0, 1, 2)
    rows += [outcomes("transfer-pgd-20", lambda image, draw: image == 3, "random", draws=range(1, 201))]
    after = results_of(rows, "clean", "transfer-pgd-20")
    attack, ensemble = (after[name].interval() for name in ("transfer-pgd-20", "ensemble"))
    assert attack == ensemble and (ensemble.images, ensemble.batches) == (16, 200)
    assert ensemble.estimate == 1 / 16 and ensemble.high == upper_end(np.eye(16)[0], TAIL)
    assert ensemble.own == (0.0, 2)  # six points less in their own batches


@pytest.mark.parametrize(
    ("scored_too", "in_random", "holds"),
    [
        (["pgd-20", "pgd-100"], 0.75, True),
        (["pgd-100"], 0.75, False),  # pgd-20 comes as near, and may be the worst in other batches
        (["pgd-20", "pgd-100"], 1.0, True),  # made together, these inputs do more in their own batches
    ],
)
def test_an_ensemble_s_lower_end_is_theirs_where_all_near_the_strongest_were_scored(
    scored_too, in_random, holds
):
    attacks = ("pgd-20", "pgd-100")
    kept = lambda image, draw: image % 4 > 0  # noqa: E731
    parts = [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    parts += [outcomes(attack, kept, purpose) for attack in attacks for purpose in ("selection", "scoring")]
    again = kept if in_random == 0.75 else (lambda image, draw: image >= 0)
    parts += [outcomes(attack, again, "random", draws=range(1, 201)) for attack in scored_too]
    found = results_of(parts, "clean", *attacks)["ensemble"].interval()
    wrong = 4 if in_random == 0.75 else 0
    least = -upper_end(-np.repeat([0.0, 1.0], [wrong, 16 - wrong]), TAIL / 2, most=0.0)  # of 16 images
    assert found.estimate == in_random and found.low == pytest.approx(least if holds else 0.0)
    assert found.own == (0.75, 2) and found.lower_as_attacked == (in_random == 1.0)


def test_an_attack_that_is_strong_in_its_own_batches_alone_hides_no_other():
    own = {"pgd-20": 0, "pgd-100": 4}  # images of 16 that stand in the inputs' own batches
    parts = [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    for attack, least in own.items():
        kept = lambda image, draw, least=least: image < least  # noqa: E731
        parts += [outcomes(attack, kept, purpose) for purpose in ("selection", "scoring")]
    parts += [outcomes("pgd-20", lambda image, draw: image < 12, "random", draws=range(1, 201))]
    found = results_of(parts, "clean", *own)["ensemble"].interval()
    assert (found.estimate, found.low, found.own) == (0.75, 0.0, (0.0, 2))  # pgd-100 may leave a quarter


def test_victims_of_random_batches_bear_the_cost_of_those_that_were_attacked_and_no_figures_of_theirs():
    parts = [
        outcomes(name, lambda image, draw: image >= 0, "scoring", images=4) for name in ("clean", "pgd-20")
    ]
    parts += [outcomes("pgd-20", lambda image, draw: image > 3, "random", draws=range(1, 201))]
    result = results_of(parts, "clean", "pgd-20")["pgd-20"]
    victims = replace(result, case=structs.replace(result.case, threat=ThreatModel("victim", "unknown")))
    for made, majority in ((result, 1.0), (victims, None)):
        (row,) = summary_rows([made], {result.case: ImagesSpent(80.0, 40.0)})
        assert (row.examples, row.accuracy) == (16, 0.75)
        assert (row.forwards, row.backwards) == (20.0, 10.0)  # of four images
        assert row.majority == row.every_draw == row.clean_accuracy == majority


def test_an_ensemble_takes_estimate_and_upper_end_from_one_of_its_attacks():
    attacks = ("pgd-20", "pgd-100")
    parts = [outcomes("clean", lambda image, draw: image >= 0, "scoring")]
    for attack, least in zip(attacks, (4, 8), strict=True):
        kept = lambda image, draw, least=least: image < least  # noqa: E731
        parts += [outcomes(attack, kept, purpose) for purpose in ("selection", "scoring")]
        parts += [outcomes(attack, kept, "random", draws=range(1, 201))]
    found = results_of(parts, "clean", *attacks)["ensemble"].interval()
    assert found.estimate == 0.25  # of pgd-20, at half of the error
    assert found.high == upper_end(np.repeat([1.0, 0.0], [4, 12]), TAIL / 2)
