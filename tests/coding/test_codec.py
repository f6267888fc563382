"""The codec, and its error on a smooth function (Lemma 1 of arXiv 2510.00253)."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from robustbench_coded.coding.codec import Codec
from robustbench_coded.coding.sizes import coded_size
from robustbench_coded.coding.spline import chebyshev_first, chebyshev_second, spline_matrix


def encode(codec, x, perm=None):
    """Of one batch."""
    return codec.encode(x[None], None if perm is None else perm[None])[0]


def decode(codec, values, perm=None):
    return codec.decode(values[None], None if perm is None else perm[None])[0]


def smoothed(codec, x, f, perm):
    return codec.smoothed(x[None], f, perm[None])[0]


EXACT = {"rtol": 0, "atol": 1e-12}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffles(groups, k):
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randperm(k, generator=generator) for _ in range(groups)])


@pytest.mark.parametrize(
    ("k", "n", "norm"), [(8, 12, 0.149), (16, 24, 0.129), (128, 190, 0.113), (128, 128, 1.087)]
)
def test_distance_of_the_codec_from_the_identity(k, n, norm):
    codec = Codec(k, n)
    distance = codec.decoder(dtype=torch.float64) @ codec.encoder(dtype=torch.float64) - torch.eye(k)
    assert torch.linalg.matrix_norm(distance, 2).item() == pytest.approx(norm, abs=5e-4)


def test_encoding_reads_the_spline_through_the_batch_at_the_coded_points():
    x = normal(8, 3)
    coded = spline_matrix(chebyshev_first(8), chebyshev_second(12)) @ x.numpy()
    torch.testing.assert_close(encode(Codec(8, 12), x), torch.from_numpy(coded), **EXACT)


@pytest.mark.parametrize("shape", [(), (5,), (3, 6, 4), (2, 1, 3, 2)], ids=str)
def test_any_trailing_shape_and_groups(shape):
    codec, perm = Codec(8, 12), shuffles(3, 8)
    x, values = normal(3, 8, *shape), normal(3, 12, *shape)
    coded, decoded = codec.encode(x, perm), codec.decode(values, perm)
    assert coded.shape == (3, 12, *shape) and decoded.shape == (3, 8, *shape)
    for g in range(3):
        torch.testing.assert_close(coded[g], encode(codec, x[g], perm[g]), **EXACT)
        torch.testing.assert_close(decoded[g], decode(codec, values[g], perm[g]), **EXACT)
        torch.testing.assert_close(codec.encode(x)[g], encode(codec, x[g]), **EXACT)
        torch.testing.assert_close(codec.decode(values)[g], decode(codec, values[g]), **EXACT)


def test_folded_permutations_shuffle_the_batch_and_put_it_back():
    codec, x, values, perm = Codec(8, 12), normal(8, 3), normal(12, 3), shuffles(1, 8)[0]
    torch.testing.assert_close(encode(codec, x, perm), encode(codec, x[perm]), **EXACT)
    back = torch.empty(8, 3, dtype=torch.float64)
    back[perm] = decode(codec, values)
    torch.testing.assert_close(decode(codec, values, perm), back, **EXACT)


@pytest.mark.parametrize(
    "options", [{}, {"order": 1}, {"order": 5}, {"nodes": "uniform"}, {"smoothing_decoder": 0.1}]
)
@pytest.mark.parametrize(("k", "n"), [(4, 4), (8, 12), (128, 190)])
def test_identical_inputs_are_answered_as_alone(k, n, options):
    x = normal(1, 5).expand(k, 5)
    estimate = smoothed(Codec(k, n, **options), x, lambda coded: coded.sin() * coded.exp(), shuffles(1, k)[0])
    torch.testing.assert_close(estimate, x.sin() * x.exp(), rtol=0, atol=1e-9)


def test_linear_function_sees_the_product_of_the_matrices():
    codec, perm, x, weight = Codec(8, 12), shuffles(1, 8), normal(8, 6), normal(6, 3, seed=1)
    p = torch.eye(8, dtype=torch.float64)[perm[0]]
    d, e = codec.decoder(dtype=torch.float64), codec.encoder(dtype=torch.float64)
    estimate = smoothed(Codec(8, 12), x, lambda coded: coded @ weight, perm[0])
    torch.testing.assert_close(estimate, p.T @ d @ e @ p @ x @ weight, **EXACT)


def test_uniform_points_with_as_many_coded_inputs_change_nothing():
    x = normal(9, 4)
    torch.testing.assert_close(encode(Codec(9, 9, nodes="uniform"), x), x, **EXACT)
    assert not torch.allclose(encode(Codec(9, 9), x), x)


def test_order_reaches_both_sides_and_smoothing_its_own():
    alpha, beta, x = chebyshev_first(8), chebyshev_second(12), normal(12, 2)
    codec = Codec(8, 12, order=5, smoothing_encoder=0.3, smoothing_decoder=0.01)
    encoder = spline_matrix(alpha, beta, order=5, smoothing=0.3)
    decoder = spline_matrix(beta, alpha, order=5, smoothing=0.01)
    torch.testing.assert_close(encode(codec, x[:8]), torch.from_numpy(encoder) @ x[:8], **EXACT)
    torch.testing.assert_close(decode(codec, x), torch.from_numpy(decoder) @ x, **EXACT)


def test_function_is_called_once_for_all_groups_and_may_change_the_shape():
    kernel, seen = normal(5, 3, 3, 3, seed=1), []

    def block(coded):
        seen.append(coded.shape)
        return torch.nn.functional.conv2d(coded, kernel, stride=2).relu()

    codec, x, perm = Codec(8, 12), normal(4, 8, 3, 9, 7), shuffles(4, 8)
    estimate = codec.smoothed(x, block, perm)
    assert seen == [(48, 3, 9, 7)] and estimate.shape == (4, 8, 5, 4, 3)
    torch.testing.assert_close(estimate[2], smoothed(codec, x[2], block, perm[2]), **EXACT)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_gradient_equals_finite_differences(order):
    codec, perm, weight = Codec(5, 8, order=order), shuffles(2, 5), normal(3, 2, seed=1)
    x = normal(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: codec.smoothed(x, lambda z: (z @ weight).tanh(), perm), x)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)]
)
def test_tensors_keep_their_dtype(dtype, tolerance):
    codec, x, perm = Codec(16, 24), normal(16, 40), shuffles(1, 16)[0]
    estimate = smoothed(codec, x.to(dtype), lambda coded: coded.square(), perm)
    assert estimate.dtype == dtype
    exact = smoothed(codec, x, lambda coded: coded.square(), perm)
    torch.testing.assert_close(estimate.double(), exact, rtol=0, atol=tolerance * exact.abs().max().item())


def test_autocast_does_not_reach_the_codec():
    codec, x = Codec(16, 24), normal(16, 40).float()
    with torch.autocast("cpu", torch.bfloat16):
        coded = encode(codec, x)
    assert coded.dtype == torch.float32 and coded.equal(encode(codec, x))


def test_matrices_first_made_under_inference_mode_serve_a_backward_pass():
    with torch.inference_mode():
        codec = Codec(11, 13)
        encode(codec, normal(11, 2))
    x = normal(11, 2).requires_grad_()
    decode(codec, encode(codec, x)).square().sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 3}, "expected k >= 4, got 3"),
        ({"n": 3}, "expected n >= 4, got 3"),
        ({"n": 12.0}, "expected an integer n, got 12.0"),
        ({"nodes": "random"}, "expected nodes to be one of chebyshev, uniform, got 'random'"),
        ({"smoothing_decoder": np.nan}, "expected finite smoothing >= 0, got nan"),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        Codec(**{"k": 8, "n": 12, **arguments})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 3), r"expected batches of shape \(8, ...\), got \(7, 3\)"),
        ((12, 8), r"expected batches of shape \(8, ...\), got \(12, 8\)"),
    ],
)
def test_batches_of_another_size_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        encode(Codec(8, 12), normal(*shape))
    with pytest.raises(ValueError, match=r"expected batches of shape \(12, ...\), got \(8, 3\)"):
        decode(Codec(8, 12), normal(8, 3))


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"expected floating-point tensors, got torch.uint8"):
        encode(Codec(8, 12), torch.zeros(8, 3, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("perm", "message"),
    [
        (torch.arange(8), r"expected int64 perm \(G, 8\), got torch.int64 \(8,\)"),
        (shuffles(2, 7), r"expected int64 perm \(G, 8\), got torch.int64 \(2, 7\)"),
        (shuffles(2, 8).double(), r"expected int64 perm \(G, 8\), got torch.float64 \(2, 8\)"),
        (shuffles(1, 8), "expected a perm for each of 2 batches, got 1"),
        (shuffles(2, 8) % 7, r"expected a perm of 0..7, got \[\d, "),
    ],
)
def test_wrong_permutations_are_refused(perm, message):
    for refuses, rows in ((Codec(8, 12).encode, 8), (Codec(8, 12).decode, 12)):
        with pytest.raises(ValueError, match=message):
            refuses(normal(2, rows, 3), perm)


def test_function_that_loses_rows_is_refused():
    with pytest.raises(ValueError, match=r"expected f to return 12 rows, got \(11, 3\)"):
        Codec(8, 12).smoothed(normal(1, 8, 3), lambda coded: coded[1:])


K = 8
SIZES = [2 * K * 2**i for i in range(6)]  # 2K .. 64K


def smooth(x):
    return torch.cat([torch.sin(2 * x[:, :1] * x[:, 1:2]), torch.tanh(x)], dim=1)


def squared_error(n, **options):
    x = torch.rand(1, K, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = Codec(K, n, **options).smoothed(x, smooth)[0]
    return (estimate - smooth(x[0])).square().sum(1).mean().item()


def slope(errors):
    return np.polyfit(np.log(SIZES), np.log(errors), 1)[0]


@pytest.mark.parametrize("order", [3, 5])
def test_error_falls_with_the_cube_of_the_number_of_coded_inputs(order):
    assert slope([squared_error(n, order=order) for n in SIZES]) <= -3


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
