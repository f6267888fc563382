"""Without chance, attacks leave broken examples alone: that saves images and changes no outcome."""

from pathlib import Path

import pytest

from robustbench_coded.evaluation.execution.run_unit import execute
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluation import make_plan
from robustbench_coded.evaluation.setup.prepare import prepare

DIGITS = Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"
DROPPING = ("pgd-20", "apgd-ce-20", "apgd-dlr-20", "apgd-t-5", "square-100", "random-100")


def measured(*attacks, drop):
    """By attack: whether each example stands, and images forwarded and differentiated in all."""
    config = EvalConfig(
        checkpoints=(("erm", str(DIGITS)),),
        data="digits",
        limit=64,
        first=True,
        batch_sizes=(16,),
        eps=(0.1,),
        attacks=attacks,
        drop=drop,
        threads=1,
    )
    prepared = prepare(config)
    found = {}
    for unit in make_plan(prepared).units:
        result = execute(prepared.context, unit)
        rows = result.rows.to_pandas().sort_values("example")
        cost = sum(result.metadata.get(count, 0) for count in ("forwards", "backwards"))
        found[unit.case.attack] = rows.margin.to_numpy() > 0, cost
    return found


@pytest.fixture(scope="module")
def both():
    return measured(*DROPPING, drop=True), measured(*DROPPING, drop=False)


@pytest.mark.long
@pytest.mark.parametrize("attack", DROPPING)
def test_dropping_saves_images_and_changes_no_outcome(both, attack):
    (stood, cost), (stood_without, cost_without) = (found[attack] for found in both)
    assert 0 < stood.mean() < 1
    assert stood.tolist() == stood_without.tolist()
    assert cost < cost_without
