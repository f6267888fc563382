"""Images laid out otherwise than in training, which batch-norms may remember all the same."""

import pytest
import torch

from robustbench_coded.models.views import better_view
from robustbench_coded.models.witnesses import labelled


def of_the_top_left_pixel(x):
    """Logits by the class whose place on a line of ten is as bright as the first pixel."""
    return -100 * (x[:, 0, 0, :1] - torch.linspace(0, 1, 10)).square()


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (lambda x: x, None),
        (lambda x: x.mT, None),  # the same pixel
        (lambda x: x.flip(3), "mirrored"),
        (lambda x: x.flip(2), "upside down"),
        (lambda x: 1 - x, "inverted (1 - x)"),
        (lambda x: x.roll(2, 3), None),  # no view that is known
    ],
)
def test_a_view_that_is_answered_far_better_is_named(view, name):
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = of_the_top_left_pixel(view(x)).argmax(1)
    own = labelled(of_the_top_left_pixel, x, y)
    said = better_view([of_the_top_left_pixel], x, y, own)
    if name is None:
        assert said == ()
    else:
        assert f"rightly, {name} 100.0%" in said[0] and said[0].endswith("try --data with such images")


def test_channels_in_the_other_order_are_a_view_of_colours_alone():
    x = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = of_the_top_left_pixel(x.flip(1)).argmax(1)
    own = labelled(of_the_top_left_pixel, x, y)
    assert "with channels reversed 100.0%" in better_view([of_the_top_left_pixel], x, y, own)[0]


def test_where_batch_norms_saw_the_colours_only_turned_images_are_shown():
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = of_the_top_left_pixel(1 - x).argmax(1)
    own = labelled(of_the_top_left_pixel, x, y)
    assert better_view([of_the_top_left_pixel], x, y, own, turned=True) == ()
    assert better_view([of_the_top_left_pixel], x, y, own)
