"""Group sizes follow the memory of a device, and memory that runs out changes no word."""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch
from imitation_accelerator import State

from robustbench_coded.evaluation.engine import worker
from robustbench_coded.evaluation.options.device import gradient_of_sum, images_that_fit
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup import prepare as preparation
from tests.accelerator.conftest import evaluated, tiny

# With a limit of time that is given, no unit's time is measured where memory is short.
SMALL_RUN = {"limit": 64, "attacks": ("pgd-3",)}
LIMITS = 10
pytestmark = pytest.mark.long


def test_group_sizes_follow_the_memory_that_an_image_takes(device):
    network, x, _ = tiny()
    network = network.to(device)
    x = x.to(device)
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4096), torch.nn.Linear(4096, 10)).to(
        device
    )
    State.limit_bytes = State.allocated[0] + 2**20
    few, many = (
        images_that_fit(x.device, partial(gradient_of_sum, model, x[:4]), 4, 10_000)
        for model in (wide, network)
    )
    assert 1 <= few < many / 8
    assert images_that_fit(x.device, partial(gradient_of_sum, network, x), len(x), 16) == 16


class LimitedOncePlanned(Listener):
    """Takes memory away when group sizes have been measured and planned, as another program does.

    Not from the self-tests, which are no unit of work: the imitation cannot run out within a backward pass.
    """

    def __init__(self, spare):
        self.spare = spare

    def planned(self, plan, images, *, remade=0):
        State.limit_bytes = State.limit_bytes or State.allocated[0] + self.spare

    def preparing(self, text):
        State.limit_bytes = None


@cache
def most_memory(images):
    """What a run says on the device, and the most bytes that a unit takes with so many images a forward."""
    taken, real = [], worker.execute

    def execute(context, unit):
        before = State.peak[0] = State.allocated[0]
        result = real(context, unit)
        taken.append(State.peak[0] - before)
        return result

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(worker, "execute", execute)
        patch.setattr(preparation, "images_in_one_forward", lambda *given: images)
        _, table = evaluated("imitation:0", Path(folder), **SMALL_RUN)
    return table, max(taken)


@pytest.mark.parametrize("place", range(LIMITS))
def test_memory_that_runs_out_costs_a_run_one_retry(device, tmp_path, place):
    """Between what groups of one batch need and what the largest ones do, at equal ratios."""
    (expected, most), (_, least) = most_memory(2048), most_memory(8)
    assert most > 8 * least
    spare = int(1.02 * least * (most / least) ** (place / LIMITS))
    _, table = evaluated(device, tmp_path, LimitedOncePlanned(spare), **SMALL_RUN)
    pd.testing.assert_frame_equal(table, expected)
    assert State.ran_out == 1


def test_a_run_for_which_one_batch_is_too_much_says_so(device, tmp_path):
    spare = most_memory(8)[1] // 4
    with pytest.raises(IncompleteRun, match=r"units failed.*OutOfMemoryError"):
        evaluated(device, tmp_path, LimitedOncePlanned(spare), **SMALL_RUN)
