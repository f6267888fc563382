from robustbench_coded.evaluation.engine.run import limit_for


def test_a_unit_that_is_said_to_cost_anything_has_a_limit_that_poll_takes():
    assert 1000 * limit_for(None, lambda unit: 1e15)(None) < 2**31
