"""The certificate of the digits network, which the zoo keeps: descents do not contradict it."""

import pytest
import torch

from zoo import trained
from zoo.trained import standing_after_descent


@pytest.mark.long
def test_what_is_certified_stands_after_descents():
    known = trained.known_pgd_at(n=64)
    stands = standing_after_descent(known.defence.model, known.x, known.y, trained.EPS)
    certain = torch.tensor([i not in trained.UNCERTIFIED for i in range(len(known.x))])
    assert stands[certain].all()
    truth = known.truth("batch/unknown")
    assert 0.7 < truth.low < truth.high < known.clean.high
