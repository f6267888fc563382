import math

import numpy as np
import pandas as pd

from robustbench_coded.judge.outcomes import case_keys, cells
from robustbench_coded.schema.case import KEY_COLUMNS


def test_rows_in_any_order_become_tables_of_examples_and_draws(evaluation):
    rng = np.random.default_rng(0)
    scoring, selection = rng.random((20, 3)) < 0.5, rng.random((20, 2)) < 0.5
    ids = rng.permutation(100)[:20]
    outcomes, planned = evaluation().add("fgsm", scoring, selection, examples=ids).frames()
    found = cells(outcomes.sample(frac=1, random_state=0))
    key = case_keys(planned)[0]
    assert set(found) == {(key, "scoring"), (key, "selection")}
    order = np.argsort(ids)
    scored = found[key, "scoring"]
    assert scored.example.tolist() == ids[order].tolist()
    assert (scored.correct == scoring[order]).all()
    assert scored.label.tolist() == (ids[order] % 10).tolist()
    assert scored.batch.tolist() == (ids[order] // 16).tolist()
    assert (found[key, "selection"].correct == selection[order]).all()


def test_rows_that_differ_in_one_key_column_are_kept_apart(evaluation):
    run = evaluation()
    changes = dict(
        zip(KEY_COLUMNS, ("mixup", "coded", None, 32, "batch/known", "pgd-10", "l2", 0.5, "normalized", None))
    )
    run.add("fgsm", np.ones((4, 1)))
    for number, (name, value) in enumerate(changes.items()):
        right = np.ones((4, 1))
        right[: number % 4] = 0
        attack = value if name == "attack" else "fgsm"
        run.add(attack, right, **({} if name == "attack" else {name: value}))
    outcomes, planned = run.frames()
    found = cells(outcomes)
    keys = case_keys(planned)
    assert len(found) == len(set(keys)) == len(KEY_COLUMNS) + 1
    counts = [int(found[key, "scoring"].correct.sum()) for key in keys]
    assert counts == [4] + [4 - number % 4 for number in range(len(KEY_COLUMNS))]
    assert keys[3].subject.k is None and keys[0].subject.k == 16 and keys[10].step_size is None


def test_keys_survive_a_csv_file(evaluation, tmp_path):
    run = evaluation().add("clean", np.ones((4, 1)), k=None, n=None).add("fgsm", np.ones((4, 1)))
    planned = run.frames()[1]
    planned.to_csv(tmp_path / "planned.csv", index=False)
    # pandas 2.2 rounds floats when it reads them.
    exact = dict.fromkeys(("eps", "step_size"), lambda text: float(text) if text else math.nan)
    assert case_keys(pd.read_csv(tmp_path / "planned.csv", converters=exact)) == case_keys(planned)
