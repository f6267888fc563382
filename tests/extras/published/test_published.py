"""Every published defence by its file: its record and its answers. New files are tested, too."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.plugin import build_defence
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published import (
    activations,
    batch_adaptation,
    input_transformations,
    purification,
    self_ensemble,
    smoothing,
)
from robustbench_coded.extras.published.registry import PREFIX, PUBLISHED

K, CLASSES = 6, 10
BUILT = sorted(name for name, found in PUBLISHED.items() if not found.is_record)
# Rounding, thresholds and hard choices leave no slope; the others claim a gradient.
WITHOUT_SLOPE = {"bit-depth", "jpeg", "thermometer"}


def images(count=K, seed=0):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
        network = nn.Sequential(*layers).eval().requires_grad_(False)
    network.channels, network.classes = 1, CLASSES
    return network


@pytest.fixture(params=BUILT)
def defence(request, model):
    return build_defence(PREFIX + request.param, model, K, pool=lambda: images(40, seed=9))


def draw_of(defence, seed=1):
    return defence.sample(torch.Generator().manual_seed(seed), K)


def test_there_are_enough_and_records_say_where_they_come_from():
    assert len(PUBLISHED) >= 20
    for name, found in PUBLISHED.items():
        assert re.fullmatch(r"\d{4}\.\d{5}|[A-Z][A-Za-z]+ \d{4}", found.arxiv), name
        assert found.section and found.claim and found.setting and 2017 <= found.year <= 2026, name
        assert found.arxiv in found.description and found.description.endswith(")."), name
        assert found.label != found.description and len(found.label) < 40, name
        assert not (found.spec and found.is_record), name


def test_answers_have_a_shape_and_follow_the_draw_alone(defence):
    x, before = images(), torch.get_rng_state()
    first = defence.logits(x.clone(), draw_of(defence))
    assert first.shape == (K, (getattr(defence, "abstain", None) or CLASSES - 1) + 1)
    assert torch.isfinite(first).all()
    defence.logits(images(seed=3), draw_of(defence, 2))  # nothing is remembered
    torch.testing.assert_close(defence.logits(x, draw_of(defence)), first)
    moved = not torch.allclose(defence.logits(x, draw_of(defence, 2)), first)
    assert moved == defence.randomised
    assert torch.equal(torch.get_rng_state(), before)


def test_records_say_what_the_probe_would_find(defence):
    found = next(PUBLISHED[name] for name in BUILT if parse_defence(PREFIX + name).label == defence.name)
    assert bool(found.random) == defence.randomised
    assert bool(found.coupling) == defence.batch_dependent
    x = images()
    others = torch.cat([1 - x[1:2], x[-1:], 1 - x[3:], x[-1:]])  # a copy of the last input, and others
    apart = [
        (defence.logits(x, draw) - defence.logits(others, draw))[-1].abs().max().item()
        for draw in (draw_of(defence, seed) for seed in range(4))
    ]
    assert (max(apart) > 1e-4) == defence.batch_dependent


def test_a_gradient_is_there_where_one_is_claimed(defence):
    x = images().requires_grad_()
    answers = sum(defence.logits(x, draw_of(defence, seed)).square().sum() for seed in range(8))
    slope = torch.autograd.grad(answers, x)[0] if answers.requires_grad else torch.zeros_like(x)
    hidden = defence.name.removeprefix(PREFIX) in WITHOUT_SLOPE
    assert torch.isfinite(slope).all()
    assert (slope.flatten(1).abs().amax(1) > 0).tolist() == [not hidden] * K


def test_they_are_named_on_the_command_line():
    assert parse_defence("published:jpeg").label == "published:jpeg"
    assert parse_defence("published:rci") == parse_defence("rci:N=1.5K")
    with pytest.raises(InputError, match="did you mean jpeg"):
        parse_defence("published:jpg")
    with pytest.raises(InputError, match="property of the checkpoint"):
        parse_defence("published:adversarial-training")


def test_a_pool_is_asked_for_and_not_made_up(model):
    with pytest.raises(InputError, match="images that are not evaluated"):
        build_defence("published:feature-squeezing", model, K)


def test_pruned_activations_are_right_on_average():
    a = torch.rand(1, 50, generator=torch.Generator().manual_seed(0)).repeat(4000, 1)
    pruned = activations.prune(a, torch.Generator().manual_seed(1))
    assert (pruned == 0).float().mean() > 0.2
    torch.testing.assert_close(pruned.mean(0), a[0], rtol=0.1, atol=0.02)


def test_what_jpeg_quantises_stays_as_it_is_the_second_time():
    smooth = torch.linspace(0.2, 0.8, 8).expand(1, 1, 8, 8)
    once = input_transformations.compressed(smooth)
    assert (once - smooth).abs().max() < 0.03
    torch.testing.assert_close(input_transformations.compressed(once), once, atol=2e-3, rtol=0)
    odd = images(2)[..., :5, :7]
    assert input_transformations.compressed(odd).shape == odd.shape


def test_winners_are_the_largest_of_each_example():
    kept = activations.winners(torch.tensor([[1.0, 5.0, 2.0, 4.0, 3.0], [5.0, 4.0, 3.0, 2.0, 1.0]]))
    assert kept.tolist() == [[0.0, 5.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0, 0.0]]


def test_variation_is_near_its_minimum():
    x, kept = images(4), (torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5).float()

    def objective(image):
        steps = sum(
            (image.diff(dim=d).square() + input_transformations.SMOOTH).sqrt().sum() for d in (-1, -2)
        )
        return (kept * (image - x)).square().sum() / 2 + input_transformations.WEIGHT * steps

    best = x.clone().requires_grad_()
    descent = torch.optim.LBFGS([best], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        loss = objective(best)
        loss.backward()
        return loss

    descent.step(closure)
    found, least = objective(input_transformations.minimised(x, kept)), objective(best)
    assert least <= found < 1.006 * least


def test_deflected_pixels_come_from_nearby():
    source = input_transformations._sources(200, 8, 8, torch.Generator().manual_seed(0))
    at = torch.arange(64)
    moved = source != at
    assert moved.float().mean().item() == pytest.approx(0.1 * 24 / 25, abs=0.02)
    assert ((source // 8 - at // 8).abs() <= 2).all() and ((source % 8 - at % 8).abs() <= 2).all()


def test_random_filters_keep_their_norms_and_the_others_stay():
    filters = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = activations.projected(filters, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.flatten(1).norm(dim=1), filters.flatten(1).norm(dim=1))
    assert [bool((a == b).all()) for a, b in zip(found, filters, strict=True)] == [False] * 2 + [True] * 6
    cosines = torch.cosine_similarity(found.flatten(1), filters.flatten(1))
    assert cosines[:2].abs().max() < 0.7


def test_random_weights_are_one_for_each_pixel_and_the_same_for_a_whole_batch():
    weights = activations.RandomWeights.change(torch.ones(2, 1, 90, 90), torch.Generator().manual_seed(0), 0)
    assert torch.equal(weights[0], weights[1])
    assert weights.mean() == pytest.approx(1, abs=0.03) and weights.std() == pytest.approx(2 / 3, abs=0.03)


def test_a_learnt_denoiser_removes_noise_and_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    smooth = images(60, seed=5).mean((2, 3), keepdim=True).expand(-1, -1, 8, 8)
    denoiser = purification.denoiser_of(smooth)
    noisy = smooth[:20] + 0.2 * torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    off = [(x - smooth[:20]).square().mean() for x in (denoiser(noisy, 0.2), noisy)]
    assert off[0] < off[1] / 3
    assert torch.equal(torch.get_rng_state(), before)
    assert purification.denoiser_of(smooth.clone()) is denoiser


def test_a_density_of_one_image_is_denoised_in_closed_form(model):
    # One kernel of deviation h around c: the expected image of x is c + (x - c) h^2 / (h^2 + s^2).
    pool, x = images(1, seed=5), images(2)
    found = purification.DiffusionPurification(model, pool).denoised(x, 0.3)
    share = purification.KERNEL_WIDTH**2 / (purification.KERNEL_WIDTH**2 + 0.3**2)
    torch.testing.assert_close(found, pool + share * (x - pool))


def test_batch_statistics_are_those_of_the_batch_and_the_checkpoint_keeps_its_own(model):
    adapted = batch_adaptation.with_batch_statistics(model)
    x = images()
    normed = adapted.network[1](adapted.network[0](x))
    torch.testing.assert_close(normed.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    assert model[1].track_running_stats and not torch.allclose(adapted(x), model(x))
    with pytest.raises(InputError, match="no batch-norm"):
        batch_adaptation.with_batch_statistics(nn.Linear(2, 2))


def test_tent_lowers_the_entropy_of_the_batch_and_shows_the_attacker_how(model):
    defence = PUBLISHED["tent"].build(model).defence
    x = images().requires_grad_()

    def entropy(fitted):
        p = torch.func.functional_call(defence.adapted, fitted, (x,)).log_softmax(-1)
        return -(p.exp() * p).sum(-1).mean().item()

    defence.fit(x)
    stepped = defence.fitted
    start = {name: dict(defence.adapted.named_parameters())[name] for name in stepped}
    assert entropy(stepped) < entropy(start)
    (slope,) = torch.autograd.grad(stepped["network.1.weight"].sum(), x)
    assert slope.abs().max() > 0
    defence.fit(x.detach())
    assert not defence.fitted["network.1.weight"].requires_grad


def test_a_stateful_detector_rejects_repeated_queries_until_it_is_reset(model):
    defence = PUBLISHED["stateful-detection"].build(model, images(40, seed=9)).defence
    x = images().round()  # further from each other than the images that set the threshold
    first = defence.logits(x, None)
    assert (first.argmax(-1) != CLASSES).all()
    assert (defence.logits(x + 1e-4, None).argmax(-1) == CLASSES).all()
    defence.reset()
    torch.testing.assert_close(defence.logits(x, None), first)


def test_squeezing_rejects_as_many_unseen_images_as_it_should(model):
    defence = PUBLISHED["feature-squeezing"].build(model, images(400, seed=9))
    rejected = defence.logits(images(400, seed=11), None).argmax(-1) == CLASSES
    assert rejected.float().mean().item() == pytest.approx(0.05, abs=0.04)


def test_layers_are_changed_for_one_answer_alone(model):
    seen = []

    class Zeroed(activations.ChangedLayers):
        def change(self, a, generator, layer):
            seen.append((layer, tuple(a.shape)))
            return 0 * a

    class Failing(activations.ChangedLayers):
        def change(self, a, generator, layer):
            raise RuntimeError

    x = images()
    before = model(x)
    assert torch.allclose(Zeroed(model).logits(x, 0), model[-1].bias.expand(K, -1))
    assert seen == [(1, (K, 144))]
    assert torch.equal(model(x), before)
    with pytest.raises(RuntimeError):
        Failing(model).logits(x, 0)
    assert torch.equal(model(x), before)


def test_a_median_and_the_variance_around_it_normalise_a_batch(model):
    median = PUBLISHED["median-batch-norm"].build(model)
    norm = batch_adaptation.norms_of(median.adapted)["network.1"]
    a = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1).repeat(1, 4, 1, 1)
    variance = (1 + 0 + 16) / 3  # around the median
    torch.testing.assert_close(norm(a)[:, 0, 0, 0], torch.tensor([-1.0, 0.0, 4.0]) / (variance + 1e-5) ** 0.5)


def test_crossmax_lets_no_member_and_no_class_run_away():
    answers = torch.tensor([[[0.0, 3.0, 1.0], [2.0, 0.0, 1.0], [100.0, 0.0, 0.0]]])
    # Less each member's largest: [-3, 0, -2], [0, -2, -1], [0, -100, -100]; then each class's: 0, 0, -1.
    torch.testing.assert_close(self_ensemble.cross_max(answers), torch.tensor([[0.0, -2.0, -1.0]]))


def test_noise_against_queries_has_the_stated_size():
    generator, a = torch.Generator().manual_seed(0), 3 * torch.randn(4, 2000)
    noise = smoothing.noisy(a, generator) - a
    assert noise.std() == pytest.approx(3 * smoothing.ON_FEATURES, rel=0.05)
    defence = smoothing.RandomNoiseDefence(nn.Identity())
    x = torch.rand(1, 1, 64, 64)
    assert (defence.logits(x, 1) - x).std() == pytest.approx(smoothing.ON_INPUT, rel=0.05)


def test_disputes_name_both_sides_and_stand_in_the_list_and_their_defences_on_the_page():
    page = (Path(__file__).parents[3] / "docs" / "board.md").read_text()
    disputed = {name: found.disputes for name, found in PUBLISHED.items() if found.disputes}
    assert {source for of in disputed.values() for source, _, _ in of} == {
        "fra31/auto-attack#58", "UniSerj/Random-Projection-Filters#1", "1907.00895", "2404.19640",
        "GaozhengPei/FreqPure#2",
    }  # fmt: skip
    assert f"disputed ({', '.join(f'`{name}`' for name in sorted(disputed))})" in page
    for name, of in disputed.items():
        for source, critics, authors in of:
            assert critics and authors and critics != authors
            assert f"disputed: {source}" in PUBLISHED[name].description
