from robustbench_coded.statistics.next_steps import as_option, merged_steps


def test_attacks_are_named_once_and_steps_that_run_some_are_one():
    steps = [
        "run eot20-pgd-40",
        "run square-1000 and eot20-pgd-40",
        "without the defence's gradients, run square-1000 and rays-400",
        "without the defence's gradients, run rays-400 and rays-800 and transfer-pgd-20",
        "run apgd-mt-20",
    ]
    assert merged_steps(steps) == (
        "run eot20-pgd-40, square-1000 and apgd-mt-20",
        "without the defence's gradients, run rays-400, rays-800 and transfer-pgd-20",
    )


def test_a_step_whose_attacks_are_all_named_is_left_out():
    assert merged_steps(["run pgd-20", "without the defence's gradients, run pgd-20"]) == ("run pgd-20",)


def test_other_steps_stay_as_they_are_and_are_told_once():
    others = ["evaluate more examples (--limit)", "run the probe", "run it, too", "run it again"]
    assert merged_steps([*others, *others]) == tuple(others)
    assert merged_steps([]) == ()


def test_attacks_become_an_option_to_paste_and_other_steps_stay():
    assert as_option("run pgd-20 and square-1000 and pgd-20") == "add --attacks pgd-20,square-1000"
    assert as_option("run pgd-20 at that eps") == "add --attacks pgd-20 at that eps"
    without = "without the defence's gradients, run square-1000"
    assert as_option(without) == "without the defence's gradients, add --attacks square-1000"
    for other in ("evaluate more examples (--limit)", "run the probe", "run it, too", "run it again", ""):
        assert as_option(other) == other
