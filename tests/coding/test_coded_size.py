import subprocess
import sys

import pytest

from robustbench_coded.coding.sizes import coded_size


@pytest.mark.parametrize(
    ("size", "k", "n"),
    [
        ("190", 128, 190),
        (190, 8, 190),
        (" 190 ", 8, 190),
        ("K", 12, 12),
        ("1K", 12, 12),
        (".5K", 8, 4),
        ("1.5K", 128, 192),
        ("1.5K", 5, 8),  # 7.5 rounds up
        ("1.5K", 7, 11),  # 10.5 rounds up; Python's round gives 10
        ("1.15K", 10, 12),  # 11.5 rounds up; the float product is 11.499...
        ("1.14K", 10, 11),
    ],
)
def test_sizes_as_users_write_them(size, k, n):
    assert coded_size(size, k) == n


@pytest.mark.parametrize(
    "size", ["", "abc", "-190", "-1.5K", "1e3", "1.5KK", "K1.5", "1_000", "1,5K", "1.5 K"]
)
def test_other_text_is_refused(size):
    with pytest.raises(ValueError, match=rf"^expected N like 190, 1.5K or K, got '{size}'$"):
        coded_size(size, 8)


@pytest.mark.parametrize("size", [-190, float("nan"), float("inf"), 1e300, True, None])
def test_other_numbers_are_refused(size):
    with pytest.raises(ValueError, match=r"^expected N like 190, 1.5K or K, got"):
        coded_size(size, 8)


@pytest.mark.parametrize("size", ["190\n190", "\u0661\u0669\u0660", "1.5\u212a", "9" * 5000])
def test_hostile_text_is_refused_in_one_line(size):
    with pytest.raises(ValueError, match=r"^expected N like 190, 1.5K or K, got .*$") as refused:
        coded_size(size, 8)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", ["1.5", 190.5])
def test_only_multiples_of_k_have_decimals(size):
    with pytest.raises(ValueError, match=r"^expected a whole N or a multiple of K like 1.5K, got"):
        coded_size(size, 128)


@pytest.mark.parametrize(("size", "n"), [("0K", 0), ("0", 0), (3, 3), ("0.4K", 3)])
def test_fewer_than_four_are_refused(size, n):
    with pytest.raises(ValueError, match=rf"^expected N >= 4, got '{size}', which is {n} at K=8$"):
        coded_size(size, 8)
    with pytest.raises(ValueError, match=r"^expected k >= 4, got 3$"):
        coded_size("1.5K", 3)


def test_reading_a_size_does_not_load_torch():
    code = "import sys, robustbench_coded.coding.sizes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
