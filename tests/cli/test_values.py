import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.options.values import fraction, radii


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), (" 0.25/255 ", 0.25 / 255), ("1e-3", 0.001), ("0.5", 0.5), ("0", 0)],
)
def test_a_fraction_may_have_a_decimal_number_above_its_line(text, value):
    assert fraction(text, "--eps") == value


@pytest.mark.parametrize("text", ["", "/255", "8/", "8/0", "8/255/2", "eight", "nan", "1e999"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(InputError, match=r"--eps .* write 8/255 or 0.03"):
        fraction(text, "--eps")


def test_lists_keep_their_order_and_drop_repeats():
    assert radii(["0.5/255,0", "0.5/255"], "--eps") == (0.5 / 255, 0.0)
