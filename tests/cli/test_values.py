import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.options.values import fraction, named_paths, radii


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


def test_a_pattern_names_trainings_in_the_order_of_their_numbers(tmp_path):
    for seed in (10, 2, 1):
        (tmp_path / f"erm-seed{seed}.pt").touch()
    files = [str(tmp_path / f"erm-seed{seed}.pt") for seed in (1, 2, 10)]
    pattern = str(tmp_path / "erm-seed*.pt")
    assert named_paths([f"erm={pattern}"], "--ckpt") == tuple(
        zip(("erm-1", "erm-2", "erm-3"), files, strict=True)
    )
    assert [name for name, _ in named_paths([pattern], "--ckpt")] == ["erm-seed1", "erm-seed2", "erm-seed10"]
    nothing = str(tmp_path / "mixup-*.pt")
    assert named_paths([f"mixup={nothing}"], "--ckpt") == (
        ("mixup", nothing),
    )  # refused as a file that is not there
