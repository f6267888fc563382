import math

import numpy as np
import pytest

from robustbench_coded.statistics.outcomes import case_keys
from robustbench_coded.statistics.variance import components

REPLICATES, BATCHES, SIZE, DRAWS = 60, 10, 16, 4
SHARED, BATCH, PARTITION, RUN = 0.15, 0.2, 0.03, 0.05


@pytest.fixture(scope="module")
def effects():
    """One deviation of each replicate for the partition and one for the attack run."""
    rng = np.random.default_rng(1)
    return [
        values - values.mean()
        for values in (rng.normal(0, PARTITION, REPLICATES), rng.normal(0, RUN, REPLICATES))
    ]


@pytest.fixture(scope="module")
def repeated(evaluation, effects):
    """An evaluation whose draws, batches, partitions and attack runs vary by known amounts."""
    rng, run = np.random.default_rng(0), evaluation()
    batches = np.repeat([BATCH, -BATCH], BATCHES // 2)  # balanced, so that they do not move the whole
    for replicate, (partition, attack_run) in enumerate(zip(*effects)):
        for attack, shift in (("clean", partition), ("pgd-10", partition + attack_run)):
            shared = rng.choice([-SHARED, SHARED], (BATCHES, DRAWS))
            chance = np.repeat(0.5 + shift + shared + batches[:, None], SIZE, axis=0)
            run.add(attack, rng.random(chance.shape) < chance, batch_size=SIZE, replicate=replicate)
    outcomes, planned = run.frames()
    return outcomes, dict(zip(planned.attack, case_keys(planned)))


def test_components_of_a_simulated_evaluation(repeated, effects):
    outcomes, keys = repeated
    found = components(outcomes, keys["pgd-10"])
    answers = 0.25 - SHARED**2 - BATCH**2
    draw = math.sqrt(SHARED**2 / (BATCHES * DRAWS) + answers / (BATCHES * SIZE * DRAWS))
    partition, run = (values.std(ddof=1) for values in effects)
    assert found.replicates == REPLICATES
    assert found.draw == pytest.approx(draw, rel=0.1)
    assert found.batch == pytest.approx(BATCH / math.sqrt(BATCHES - 1), rel=0.1)
    assert found.partition == pytest.approx(partition, rel=0.35)
    assert found.attack_run == pytest.approx(run, rel=0.25)


def test_clean_inputs_have_no_attack_run(repeated):
    outcomes, keys = repeated
    found = components(outcomes, keys["clean"])
    assert found.attack_run == 0
    assert found.partition == pytest.approx(PARTITION, rel=0.35)


def test_one_replicate_or_draw_cannot_tell(evaluation):
    run = evaluation().add("pgd-10", np.arange(64)[:, None] % 2 == 0)
    outcomes, planned = run.frames()
    found = components(outcomes, case_keys(planned)[0])
    assert all(map(math.isnan, (found.draw, found.partition, found.attack_run)))
    assert found.batch == 0  # every batch has half of its examples right


def test_a_row_without_outcomes_is_refused(repeated):
    outcomes, keys = repeated
    with pytest.raises(KeyError, match="no outcomes"):
        components(outcomes, keys["clean"]._replace(attack="fgsm"))
