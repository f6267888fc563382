"""From options to sets, and the images that networks are recognised by."""

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.paper.shift import run
from robustbench_coded.paper.shift.run import ShiftConfig


def config(data, **options):
    return ShiftConfig(EvalConfig(checkpoints=(("erm", "digits-erm"),), **options), data=(data,))


def test_a_kind_without_its_folder_says_what_the_folder_should_hold():
    with pytest.raises(
        InputError, match=r"--data cifar10c: give its folder, cifar10c:DIR, which holds .*fog"
    ):
        run.chosen_sets(config("cifar10c"))
