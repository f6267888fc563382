"""The certificate of the digits network, which the zoo keeps: the bounds of ``certification`` find it again.

tests/certification holds those bounds against exact minima and a dense implementation of their rule.
"""

import pytest
import torch

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.extras.certification.bounds import Region, least_margins
from robustbench_coded.extras.certification.graph import graph_of
from zoo import trained
from zoo.trained import digits_network, standing_after_descent


def test_whatever_is_kept_as_certified_is_certified(soak):
    """Eight of the 256 images; all of them, half a minute, with --soak."""
    x, y = load_digits("test").batch(range(trained.EXAMPLES if soak else 8))
    model = digits_network(trained.NAME)
    least = least_margins(graph_of(model, x), Region.around(x, "linf", trained.EPS), y).amin(1)
    uncertified = set((least <= 0).nonzero()[:, 0].tolist())
    assert {1, 2} <= uncertified <= set(trained.UNCERTIFIED)


@pytest.mark.long
def test_what_is_certified_stands_after_descents():
    known = trained.known_pgd_at(n=64)
    stands = standing_after_descent(known.defence.model, known.x, known.y, trained.EPS)
    certain = torch.tensor([i not in trained.UNCERTIFIED for i in range(len(known.x))])
    assert stands[certain].all()
    truth = known.truth("batch/unknown")
    assert 0.7 < truth.low < truth.high < known.clean.high
