"""The recipes' losses against their papers' formulas, worked out on a network of three formulas."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import BlockNetwork
from robustbench_coded.paper.training.config import (
    RECIPES,
    CodedRecipe,
    Erm,
    ManifoldMixup,
    Mixing,
    Mixup,
    Moment,
    PgdAt,
    Trades,
    build_recipe,
    divergence,
    recipe_name,
    recipe_options,
    target_runs,
)
from robustbench_coded.paper.training.stages import TrainingStages, check_blocks

K = 8


class Toy(BlockNetwork):
    """[k, 1, 2, 2] -> tanh of a product -> square plus itself -> product; 3 classes."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Parameter(torch.randn(4, 5, generator=generator))
        self.last = nn.Parameter(torch.randn(5, 3, generator=generator))
        self.images = 0  # seen by the first block

    def start(self, x):
        self.images += len(x)
        return (x.flatten(1) @ self.first).tanh()

    def middle(self, z):
        return z**2 + z

    def end(self, z):
        return z @ self.last

    def blocks(self):
        return [self.start, self.middle, self.end]


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def stages(toy):
    return TrainingStages(toy, [0.25], [0.5])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(K, 1, 2, 2, generator=generator), torch.randint(3, (K,), generator=generator)


def moment(epoch=0, epochs=1, seed=0):
    return Moment(epoch, epochs, torch.Generator().manual_seed(seed))


def normalised(x):
    return (x - 0.25) / 0.5


def spline(knots, at):
    """The natural cubic spline as a matrix, by scipy: straight lines outside the knots."""
    order = np.argsort(knots)
    inside = CubicSpline(knots[order], np.eye(len(knots))[order], bc_type="natural")
    low, high = knots.min(), knots.max()
    rows = [
        inside(t) if low <= t <= high else inside(end := np.clip(t, low, high)) + (t - end) * inside(end, 1)
        for t in at
    ]
    return torch.tensor(np.array(rows), dtype=torch.float32)


def matrices(k, n):
    alpha = np.cos((2 * np.arange(1, k + 1) - 1) * np.pi / (2 * k))
    beta = np.cos(np.arange(n) * np.pi / (n - 1))
    return spline(alpha, beta), spline(beta, alpha)


def through(encoder, decoder, f, z):
    mixed = (encoder @ z.flatten(1)).reshape(len(encoder), *z.shape[1:])
    return decoder @ f(mixed)


def test_erm_is_the_cross_entropy_of_normalised_pixels(toy, stages, batch):
    x, y = batch
    expected = -torch.log_softmax(toy(normalised(x)), 1)[range(K), y].mean()
    torch.testing.assert_close(Erm()(stages, x, y, moment()), expected)


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0])
def test_coded_loss_is_equation_7(toy, stages, batch, mu):
    x, y = batch
    encoder, decoder = matrices(K, 12)
    main = cross_entropy(toy(normalised(x)), y)
    coded = cross_entropy(through(encoder, decoder, toy, normalised(x)), y)
    loss = CodedRecipe(mu=mu, n_start=1.5, n_end=1.5)(stages, x, y, moment())
    torch.testing.assert_close(loss, (1 - mu) * main + mu * coded, rtol=1e-4, atol=1e-5)
    assert (main - coded).abs().item() > 0.05  # or the weights could not be told apart


def coded_logits_by_hand(toy, x, blocks):
    encoder, decoder = matrices(K, 12)
    start, middle, end = toy.blocks()
    z = normalised(x)
    if blocks == (0,):
        return end(middle(through(encoder, decoder, start, z)))
    if blocks == (1,):
        return end(through(encoder, decoder, middle, start(z)))
    if blocks == (0, 2):
        return through(encoder, decoder, end, middle(through(encoder, decoder, start, z)))
    if blocks == (1, 2):
        return through(encoder, decoder, lambda h: end(middle(h)), start(z))
    raise AssertionError(blocks)


@pytest.mark.parametrize("blocks", [(0,), (1,), (0, 2), (1, 2)])
def test_target_blocks_are_encoded_before_and_decoded_behind(toy, stages, batch, blocks):
    x, y = batch
    loss = CodedRecipe(mu=1.0, n_start=1.5, n_end=1.5, blocks=blocks)(stages, x, y, moment())
    expected = cross_entropy(coded_logits_by_hand(toy, x, blocks), y)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_blocks_that_cover_the_network_are_the_whole_network(stages, batch):
    x, y = batch
    whole = CodedRecipe()(stages, x, y, moment())
    torch.testing.assert_close(CodedRecipe(blocks=(2, 0, 1))(stages, x, y, moment()), whole, rtol=0, atol=0)
    assert target_runs((), 5) == target_runs((4, 3, 2, 1, 0), 5) == [(0, 5)]
    assert target_runs((0, 1, 3), 5) == [(0, 2), (3, 4)]
    with pytest.raises(InputError, match="blocks 3: this architecture has 3 blocks, 0 to 2"):
        check_blocks(stages, (0, 3), "blocks")


def gradient(stages, batch, mu, blocks):
    stages.zero_grad()
    CodedRecipe(mu=mu, n_start=1.5, n_end=1.5, blocks=blocks)(stages, *batch, moment()).backward()
    return torch.cat([p.grad.flatten() for p in stages.parameters()])


@pytest.mark.parametrize("blocks", [(), (1,)])
def test_gradients_reach_the_weights_through_both_paths(stages, batch, blocks):
    main, coded = gradient(stages, batch, 0.0, blocks), gradient(stages, batch, 1.0, blocks)
    assert (main.abs() > 1e-6).all() and (coded.abs() > 1e-6).all()
    assert (main - coded).abs().max() > 1e-2
    torch.testing.assert_close(
        gradient(stages, batch, 0.5, blocks), 0.5 * main + 0.5 * coded, rtol=1e-4, atol=1e-6
    )


def test_number_of_coded_inputs_grows_linearly_from_k_to_gamma_k():
    sizes = [CodedRecipe().n_at(epoch, 5, 128) for epoch in range(5)]
    assert sizes == [128, 144, 160, 176, 192]
    assert [CodedRecipe(n_start=0.86, n_end=0.86).n_at(epoch, 3, 128) for epoch in range(3)] == [110] * 3
    assert CodedRecipe().n_at(0, 1, 15) == 23  # a single epoch is the last one; 22.5 is rounded up


@pytest.mark.parametrize(("epoch", "images"), [(0, 2 * K), (2, K + K * 3 // 2)])
def test_a_coded_step_costs_as_many_images_as_it_should(toy, stages, batch, epoch, images):
    CodedRecipe()(stages, *batch, moment(epoch, 3))
    assert toy.images == images


def test_mixing_coefficients_follow_the_beta_distribution():
    for alpha in (0.2, 1.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        shares = np.array([Mixing.draw(4, alpha, generator).share for _ in range(4000)])
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
    partners = [tuple(Mixing.draw(3, 1.0, generator).partner.tolist()) for _ in range(600)]
    counts = [partners.count(order) for order in set(partners)]
    assert len(counts) == 6 and min(counts) > 60


def soft_cross_entropy(logits, targets):
    return -(targets * torch.log_softmax(logits, 1)).sum(1).mean()


def mixed(values, mixing):
    return mixing.share * values + (1 - mixing.share) * values[mixing.partner]


def test_mixup_is_cross_entropy_to_mixed_labels_at_mixed_inputs(toy, stages, batch):
    x, y = batch
    mixing = Mixing.draw(K, 1.0, moment(seed=5).generator)
    expected = soft_cross_entropy(toy(mixed(normalised(x), mixing)), mixed(one_hot(y, 3).float(), mixing))
    torch.testing.assert_close(Mixup()(stages, x, y, moment(seed=5)), expected)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_manifold_mixup_mixes_what_its_block_is_given(toy, stages, batch, block):
    x, y = batch
    mixing = Mixing.draw(K, 2.0, moment(seed=5).generator)
    hidden = normalised(x)
    for number, f in enumerate(toy.blocks()):
        hidden = f(mixed(hidden, mixing) if number == block else hidden)
    expected = soft_cross_entropy(hidden, mixed(one_hot(y, 3).float(), mixing))
    torch.testing.assert_close(ManifoldMixup(before=(block,))(stages, x, y, moment(seed=5)), expected)


def test_manifold_mixup_chooses_each_block_equally_often(stages, batch, monkeypatch):
    chosen = []
    run = stages.run

    def recorded(x, start, stop):
        if stop == 3:
            chosen.append(start)
        return run(x, start, stop)

    monkeypatch.setattr(stages, "run", recorded)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        ManifoldMixup(before=(0, 2, 3))(stages, *batch, Moment(0, 1, generator))  # there is no block 3
    assert set(chosen) == {0, 2} and 70 < chosen.count(0) < 130


def test_pgd_reaches_the_worst_inputs_of_a_linear_network(batch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    stages = TrainingStages(network, [0.0], [1.0])
    x = batch[0]
    x[0], x[1] = 0.02, 0.97  # close to both sides of the box
    y = torch.zeros(K, dtype=torch.int64)
    weight = network[1].weight.detach()
    away = (weight[1] - weight[0]).sign().reshape(1, 2, 2)
    attack = PgdAt(eps=0.1, steps=10, step_size=0.03)
    worst = (x + 0.1 * away).clamp(0, 1)
    x_adv = attack.searched(stages, x, y, moment().generator)
    torch.testing.assert_close(x_adv, worst)
    torch.testing.assert_close(attack(stages, x, y, moment()), cross_entropy(network(worst), y))
    one_step = PgdAt(eps=0.1, steps=1, step_size=0.0).searched(stages, x, y, moment().generator)
    assert ((one_step - x).abs() <= 0.1 + 1e-6).all() and (one_step - x).abs().max() > 0.05


def test_the_search_for_adversarial_inputs_leaves_batch_norm_alone(batch):
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    stages = TrainingStages(network, [0.0], [1.0]).train()
    PgdAt(steps=5)(stages, *batch, moment())
    assert stages.training and int(network[0].num_batches_tracked) == 1


def test_recipes_are_built_by_name_with_checked_options():
    for name in RECIPES:
        assert recipe_name(build_recipe(name)) == name
    recipe = build_recipe("coded", {"mu": 0.25, "blocks": [0, 1]})
    assert recipe_options(recipe)["mu"] == 0.25 and recipe.blocks == (0, 1)
    assert build_recipe("pgd-at", {"eps": 1}).eps == 1.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("codde", {}, "unknown recipe 'codde'; did you mean coded"),
        ("erm", {"mu": 0.5}, "recipe erm has no option 'mu'; it has none"),
        ("coded", {"mu": 1.5}, "mu = 1.5: expected `float` <= 1"),
        ("coded", {"mu": "half"}, "mu = 'half': expected `float`"),
        ("coded", {"blocks": [-1]}, "expected `int` >= 0"),
        ("coded", {"order": 2}, "order = 2: .*give 1, 3, 5"),
        ("coded", {"nodes": "random"}, "give chebyshev, uniform"),
        ("pgd-at", {"steps": 2.5}, "expected `int`"),
        ("mixup", {"alpha": float("nan")}, "expected `float`"),
        ("mixup", {"alpha": 0}, "expected `float` >= 0.001"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        build_recipe(name, options)


def test_trades_weighs_how_far_answers_move_within_the_ball(batch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    stages = TrainingStages(network, [0.0], [1.0])
    x, y = batch
    trades = Trades(eps=0.1, steps=10, step_size=0.03, beta=2.0)
    x_adv = trades.searched(stages, x, y, moment().generator)
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    clean, moved = network(x).log_softmax(1), network(x_adv).log_softmax(1)
    distance = (clean.exp() * (clean - moved)).sum(1)
    torch.testing.assert_close(
        trades(stages, x, y, moment()), cross_entropy(network(x), y) + 2.0 * distance.mean()
    )
    for _ in range(20):  # no other point that was tried is further away in all
        other = (x + 0.1 * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        assert divergence(network(x), network(other)) <= distance.sum() + 1e-6
