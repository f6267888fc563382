"""How rejected inputs are counted."""

import numpy as np
import torch

from robustbench_coded.evaluation.execution.score import predictions
from tests.evaluation.conftest import Wrapper


class Scripted(Wrapper):
    """Answers with the class that the only pixel of an input spells; class 2 rejects."""

    abstain = 2

    def logits(self, x, draw):
        return torch.nn.functional.one_hot((x.flatten(1)[:, 0] * 10).round().long(), 3).float()


def scored(perturbed, clean):
    images = torch.tensor(perturbed).view(1, -1, 1, 1, 1) / 10
    before = None if clean is None else torch.tensor(clean).view(1, -1, 1, 1, 1) / 10
    found, margins = predictions(
        Scripted(),
        images,
        torch.zeros(1, len(perturbed), dtype=torch.int64),
        seed=0,
        batches=[0],
        purpose="scoring",
        draws=[0],
        group_images=64,
        clean=before,
    )
    assert np.array_equal(margins[0, 0] >= 0, found[0, 0] == 0) or clean is None
    return found[0, 0].tolist()


def test_a_rejected_clean_input_is_an_error():
    assert scored([0, 1, 2], None) == [0, 1, 2]


def test_a_rejected_perturbation_wins_nothing():
    # Right, wrong, rejected, where the clean input is answered rightly.
    assert scored([0, 1, 2], [0, 0, 0]) == [0, 1, 0]


def test_what_is_rejected_or_wrong_unperturbed_need_not_be_perturbed():
    assert scored([0, 1, 2], [2, 2, 2]) == [2, 2, 2]
    assert scored([2], [1]) == [1]
