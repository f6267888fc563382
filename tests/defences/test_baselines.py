import pytest
import torch
from torch import nn

from robustbench_coded.defences.inferences import GaussianNoise, MixupInference, ResizePad
from robustbench_coded.defences.protocol import Defence, logits_grouped

K, SHAPE = 4, (3, 6, 5)


def images(*lead, seed=0):
    return torch.rand(*lead, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 4), nn.Tanh()).double()


@pytest.fixture(params=["noise", "resize-pad", "mixup-inference"])
def defence(request, model):
    return {
        "noise": lambda: GaussianNoise(model, 0.2),
        "resize-pad": lambda: ResizePad(model, 0.6),
        "mixup-inference": lambda: MixupInference(model, images(50, seed=9), 0.5, 3),
    }[request.param]()


def test_answers_follow_the_draw_and_nothing_else(defence):
    assert isinstance(defence, Defence)
    x, before = images(K), torch.get_rng_state()
    one, same, other = (defence.sample(torch.Generator().manual_seed(seed), K) for seed in (1, 1, 2))
    assert torch.equal(defence.logits(x, one), defence.logits(x, same))
    assert not torch.allclose(defence.logits(x, one), defence.logits(x, other))
    assert torch.equal(torch.get_rng_state(), before)


def test_groups_are_answered_like_batches_one_by_one(defence):
    x, generator = images(3, K), torch.Generator().manual_seed(1)
    draws = [defence.sample(generator, K) for _ in range(3)]
    one_by_one = torch.stack([defence.logits(batch, draw) for batch, draw in zip(x, draws)])
    torch.testing.assert_close(logits_grouped(defence, x, draws), one_by_one)


def test_an_answer_does_not_know_its_co_batched_inputs(defence):
    x, draw = images(K), defence.sample(torch.Generator().manual_seed(1), K)
    changed = torch.cat([x[:1], 1 - x[1:]])
    torch.testing.assert_close(defence.logits(x, draw)[0], defence.logits(changed, draw)[0])


def test_gradient_agrees_with_finite_differences(defence):
    draw = defence.sample(torch.Generator().manual_seed(1), K)
    x, direction = images(K).requires_grad_(), images(K, seed=5)
    (gradient,) = torch.autograd.grad(defence.logits(x, draw).sum(), x)
    step = 1e-6
    with torch.no_grad():
        ends = [defence.logits(x + sign * step * direction, draw).sum() for sign in (1, -1)]
    torch.testing.assert_close(
        (gradient * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6
    )


def test_images_counts_what_the_network_sees(defence, model):
    seen = []
    handle = model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    defence.logits(images(K), defence.sample(torch.Generator().manual_seed(1), K))
    handle.remove()
    assert sum(seen) == defence.images(K)


def test_noise_has_the_deviation_asked_for():
    x = torch.zeros(50, *SHAPE)
    seen = GaussianNoise(nn.Flatten(), 0.3).logits(x, 7)
    assert seen.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(seen.mean().item()) < 0.02


def test_resizing_by_one_changes_nothing():
    x = images(K)
    torch.testing.assert_close(ResizePad(nn.Flatten(), 1.0).resized(x, torch.rand(K, 3)), x)


def test_a_small_image_lies_where_the_draw_says_and_the_rest_is_black():
    # Half the size, at the far left and the bottom: a white 8 x 8 image fills exactly one quarter.
    white = torch.ones(1, 1, 8, 8)
    small = ResizePad(nn.Flatten(), 0.5).resized(white, torch.tensor([[0.0, 0.0, 1.0]]))
    quarter = torch.zeros(1, 1, 8, 8)
    quarter[..., 4:, :4] = 1
    torch.testing.assert_close(small, quarter)


def test_mixed_in_images_belong_to_other_classes_and_each_may_come():
    pool = torch.eye(3).repeat_interleave(torch.tensor([4, 3, 5]), dim=0)
    defence = MixupInference(nn.Identity(), pool, 0.5, 1000)
    x = torch.eye(3)
    draw = defence.sample(torch.Generator().manual_seed(0), 3)
    partners = defence.partners(x, draw)
    assert (defence.pool[partners].argmax(-1) != x.argmax(-1)[:, None]).all()
    assert [len(row.unique()) for row in partners] == [8, 9, 7]


def test_mixup_inference_averages_probabilities():
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]))
    pool = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
    defence = MixupInference(model, pool, 0.25, 4)
    x, draw = torch.rand(2, 2, generator=torch.Generator().manual_seed(4)), torch.rand(2, 4)
    others = defence.pool[defence.partners(x, draw)]
    mean = torch.stack([model(0.25 * x + 0.75 * others[:, s]).softmax(-1) for s in range(4)]).mean(0)
    torch.testing.assert_close(defence.logits(x, draw), mean.log())


def test_a_pool_of_one_class_is_refused():
    with pytest.raises(ValueError, match="two predicted classes or more, got 5 images of one"):
        MixupInference(nn.Identity(), torch.eye(3)[:1].repeat(5, 1), 0.5, 2)
