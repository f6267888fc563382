from robustbench_coded.statistics.next_steps import WITHOUT_GRADIENTS, NextStep, merged_steps, run_attacks


def without(*attacks):
    return run_attacks(*attacks, how=WITHOUT_GRADIENTS)


def test_attacks_are_named_once_and_steps_that_run_them_in_the_same_way_are_one():
    steps = [
        run_attacks("eot20-pgd-40"),
        run_attacks("square-1000", "eot20-pgd-40"),
        without("square-1000", "rays-400"),
        without("rays-400", "rays-800", "transfer-pgd-20"),
        run_attacks("apgd-mt-20"),
    ]
    assert merged_steps(steps) == (
        run_attacks("eot20-pgd-40", "square-1000", "apgd-mt-20"),
        without("rays-400", "rays-800", "transfer-pgd-20"),
    )


def test_a_step_whose_attacks_are_all_named_is_left_out():
    assert merged_steps([run_attacks("pgd-20"), without("pgd-20")]) == (run_attacks("pgd-20"),)


def test_other_steps_stay_as_they_are_and_are_told_once():
    others = tuple(
        NextStep(do) for do in ("evaluate more examples (--limit)", "run the probe", "run it again")
    )
    assert merged_steps([*others, *others]) == others
    assert merged_steps([]) == ()


def test_attacks_read_as_an_option_to_paste_and_other_steps_as_what_to_do():
    assert str(run_attacks("pgd-20", "square-1000", "pgd-20")) == "add --attacks pgd-20,square-1000"
    assert str(run_attacks("pgd-20", how="at that eps")) == "at that eps, add --attacks pgd-20"
    assert str(without("square-1000")) == "without the defence's gradients, add --attacks square-1000"
    assert str(NextStep("run the probe")) == "run the probe"
    assert run_attacks() is None
