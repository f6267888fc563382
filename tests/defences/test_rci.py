import pytest
import torch
from torch import nn

from robustbench_coded.coding.codec import Codec
from robustbench_coded.defences import rci as coded_path
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.protocol import Defence, logits_grouped
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.errors import InputError

K, N = 6, 9
SHAPE = (2, 3, 4)
CLASSES = 3


class Blocks(nn.Module):
    """A small smooth network of three blocks."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.parts = nn.ModuleList(
                [
                    nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh()),
                    nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()),
                    nn.Sequential(nn.Flatten(), nn.Linear(4 * 12, CLASSES), nn.Tanh()),
                ]
            )
        self.double()
        for parameter in self.parameters():
            parameter.data *= 3  # far from linear: then it matters which blocks are coded together

    def blocks(self):
        return list(self.parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


@pytest.fixture
def model():
    return Blocks()


def batches(groups, generator_seed=1):
    generator = torch.Generator().manual_seed(generator_seed)
    return torch.rand(groups, K, *SHAPE, generator=generator, dtype=torch.float64)


def draws_of(defence, groups):
    generator = torch.Generator().manual_seed(2)
    return [defence.sample(generator, K) for _ in range(groups)]


def linear_rci_logits(w, x, perm):
    """M (x w) with M = P^T D E P, written with a permutation matrix instead of indices."""
    codec = Codec(K, N)
    d, e = codec.decoder(dtype=torch.float64), codec.encoder(dtype=torch.float64)
    p = torch.eye(K, dtype=torch.float64)[perm]
    return p.T @ d @ e @ p @ (x.flatten(1) @ w.T)


def linear_model():
    linear = nn.Linear(24, CLASSES, bias=False).double()
    return nn.Sequential(nn.Flatten(), linear), linear.weight


def test_linear_model_under_a_known_permutation_is_a_matrix():
    network, w = linear_model()
    x, perm = batches(1)[0], torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(RCI(network, K, N).logits(x, perm), linear_rci_logits(w, x, perm))


def test_copies_of_one_input_are_answered_as_by_the_network(model):
    x = batches(1)[0, :1].expand(K, -1, -1, -1)
    rci = RCI(model, K, N, average=3)
    torch.testing.assert_close(rci.logits(x, draws_of(rci, 1)[0]), model(x))


def test_relabelling_the_slots_relabels_the_answers(model):
    # What RCI promises: only the order of encoding matters, not the slot an input came in.
    rci, x, perm = (
        RCI(model, K, N),
        batches(1)[0],
        torch.randperm(K, generator=torch.Generator().manual_seed(5)),
    )
    coded = Coded(model, K, N).logits(x[perm], None)
    torch.testing.assert_close(rci.logits(x, perm)[perm], coded)


@pytest.mark.parametrize(
    "options", [{}, {"average": 2}, {"blocks": [0, 2]}, {"nodes": "uniform", "order": 5}], ids=str
)
def test_gradient_agrees_with_finite_differences(model, options):
    rci = RCI(model, K, N, **options)
    draw = draws_of(rci, 1)[0]
    x = batches(1)[0].requires_grad_()
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(K, CLASSES, generator=generator, dtype=torch.float64)
    direction = torch.rand(x.shape, generator=generator, dtype=torch.float64)

    def loss(at):
        return (rci.logits(at, draw) * weights).sum()

    (gradient,) = torch.autograd.grad(loss(x), x)
    step = 1e-5
    with torch.no_grad():
        slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda m: Standard(m),
        lambda m: Coded(m, K, N),
        lambda m: RCI(m, K, N),
        lambda m: RCI(m, K, "1.5K", average=3),
        lambda m: RCI(m, K, N, blocks={1}),
        lambda m: RCI(m, K, N, average=2, blocks={0, 2}),
    ],
)
def test_groups_are_answered_like_batches_one_by_one(model, build):
    defence = build(model)
    assert isinstance(defence, Defence)
    x, draws = batches(3), draws_of(defence, 3)
    together = logits_grouped(defence, x, draws)
    torch.testing.assert_close(together, torch.stack([defence.logits(b, d) for b, d in zip(x, draws)]))


def test_average_is_the_mean_of_its_permutations(model):
    x, rci = batches(1)[0], RCI(model, K, N, average=4)
    draw = draws_of(rci, 1)[0]
    assert draw.shape == (4, K)
    single = RCI(model, K, N)
    torch.testing.assert_close(rci.logits(x, draw), torch.stack([single.logits(x, p) for p in draw]).mean(0))


def test_all_blocks_are_the_whole_network(model):
    x, perm = batches(1)[0], torch.tensor([2, 0, 1, 5, 4, 3])
    whole = RCI(model, K, N).logits(x, perm)
    torch.testing.assert_close(RCI(model, K, N, blocks=[0, 1, 2]).logits(x, perm), whole)
    assert not torch.allclose(RCI(model, K, N, blocks=[0, 1]).logits(x, perm), whole)


def test_neighbouring_blocks_are_coded_together_and_others_apart(model):
    perm, x = torch.tensor([2, 0, 1, 5, 4, 3]), batches(1)[0]
    codec = Codec(K, N)
    first, second, third = model.blocks()

    def through(f, h):
        return codec.smoothed(h[None], f, perm[None])[0]

    together = third(through(lambda h: second(first(h)), x))
    torch.testing.assert_close(RCI(model, K, N, blocks=[0, 1]).logits(x, perm), together)
    apart = through(third, second(through(first, x)))
    torch.testing.assert_close(RCI(model, K, N, blocks=[0, 2]).logits(x, perm), apart)


def test_images_counts_what_the_network_sees(model):
    assert Standard(model).images(K) == K
    assert RCI(model, K, N, average=4).images(K) == 4 * N
    assert RCI(model, K, 4, blocks=[1]).images(K) == K
    seen = []
    model.parts[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    rci = RCI(model, K, N, average=4)
    rci.logits(batches(1)[0], draws_of(rci, 1)[0])
    assert seen == [rci.images(K)]


def test_n_scales_with_a_batch_that_is_not_full(model):
    assert RCI(model, 128, 190).codec_for(64).n == 95
    assert RCI(model, 128, "1.5K").codec_for(63).n == 95
    assert RCI(model, 128, 128).codec_for(4).n == 4
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    assert RCI(model, 128, 190).logits(x, torch.arange(4)).shape == (4, CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 8), "batches of at least 4; --batch-size 3 is too small"),
        ((8, 3), "N >= 4"),
        ((8, "0.1K"), "which is 1 at K=8"),
        ((8, 8, {3}), "choose from 0 to 2"),
        ((8, 8, set()), "choose from 0 to 2"),
    ],
)
def test_what_cannot_be_coded_is_refused(model, arguments, message):
    with pytest.raises(InputError, match=message):
        coded_path.Coded(model, *arguments[:2], blocks=next(iter(arguments[2:]), None))


def test_blocks_of_a_network_without_blocks_are_refused():
    with pytest.raises(InputError, match="Flatten does not"):
        RCI(nn.Flatten(), K, N, blocks=[0])


def test_permutations_come_from_the_generator_alone(model):
    rci = RCI(model, K, N, average=2)
    before = torch.get_rng_state()
    one, other = (rci.sample(torch.Generator().manual_seed(seed), K) for seed in (7, 7))
    assert torch.equal(one, other)
    assert not torch.equal(one, rci.sample(torch.Generator().manual_seed(8), K))
    rci.logits(batches(1)[0], one)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "build",
    [
        lambda m: Coded(m, 64, 96),
        lambda m: RCI(m, 64, 96),
        lambda m: RCI(m, 64, 64, average=2),
        lambda m: RCI(m, 64, 96, blocks={1}),
        lambda m: RCI(m, 64, 96, smoothing_decoder=1e-3),
    ],
)
def test_one_answer_of_a_batch_and_its_gradients_are_those_of_the_whole_batch(model, build):
    defence = build(model)
    x = torch.rand(3, 64, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = [defence.sample(torch.Generator().manual_seed(seed), 64) for seed in range(3)]
    at, rows = torch.tensor([0, 17, 63]), torch.arange(3)

    def answers(ask):
        leaf = x.clone().requires_grad_()
        logits = ask(leaf)
        return logits, torch.autograd.grad((logits * torch.arange(logits.shape[1])).sum(), leaf)[0]

    whole, its_gradient = answers(lambda leaf: defence.logits_grouped(leaf, draws)[rows, at])
    alone, gradient = answers(lambda leaf: defence.logits_at(leaf, draws, at))
    # Float32 rounds at 6e-8; these are what a share of 1e-8 of the weights leaves out.
    assert float((alone - whole).detach().abs().max() / whole.detach().abs().max()) < 5e-8
    assert float((gradient - its_gradient).abs().max() / its_gradient.abs().max()) < 5e-8


def test_a_coded_answer_rests_on_a_few_coded_inputs(model):
    assert Coded(model, 128, 190).images_at(128) == 31
    assert RCI(model, 128, 190, average=3).images_at(128) == 93
    assert RCI(model, K, N, blocks={1}).images_at(K) == N  # blocks between share what they are coded from


def test_one_answer_of_a_batch_comes_in_the_precision_of_the_network():
    x = torch.rand(2, 16, 1, 4, 4)
    whole = RCI(lambda images: images.flatten(1).bfloat16(), 16, 24)
    draws = [whole.sample(torch.Generator().manual_seed(seed), 16) for seed in range(2)]
    at = torch.tensor([0, 9])
    alone, every = whole.logits_at(x, draws, at), whole.logits_grouped(x, draws)[torch.arange(2), at]
    assert alone.dtype == every.dtype == torch.bfloat16
    torch.testing.assert_close(alone, every, rtol=2e-2, atol=2e-2)
