"""``robustbench_coded.attack``: what an evaluation does to its first batch, for tensors at hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from attacks.adapters.third_party import installed
from robustbench_coded import InputError, attack, attack_batches, evaluate
from robustbench_coded.defences.rci import RCI
from robustbench_coded.runs.adversarials import read_adversarials
from tests.evaluation.conftest import SMALL, K

EPS = SMALL["eps"]
NAMES = ["pgd-5", "apgd-ce-5", "square-20"]
if installed("torchattacks"):
    NAMES.append("torchattacks:PGD+steps=3")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


@pytest.fixture(scope="module")
def batch(model):
    x = torch.rand(K, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, model(x).argmax(1)


@pytest.fixture(scope="module")
def run(model, batch, tmp_path_factory):
    """An evaluation of one batch, with its perturbed inputs."""
    return evaluate(
        model,
        batch,
        defences=["rci:N=12"],
        attacks=["aware-pgd-5", *NAMES],
        save_adversarials=True,
        out=tmp_path_factory.mktemp("attack") / "run",
        **SMALL,
    )


@pytest.mark.parametrize(
    ("defence", "name"),
    [("rci", "aware-pgd-5"), *((defence, name) for defence in ("standard", "rci") for name in NAMES)],
)
def test_it_finds_what_an_evaluation_finds(run, model, batch, defence, name):
    want, order = stored(run, defence, name)
    x, y = batch[0][order], batch[1][order]
    target = model if defence == "standard" else RCI(model, K, "12")
    found = attack(target, x, y, name, eps=EPS, seed=0, early_stop=True)
    torch.testing.assert_close(found, want(x), atol=1e-6, rtol=0)
    assert not torch.equal(found, x) and (found - x).abs().max() <= EPS + 1e-6


def stored(run, defence, name):
    """The perturbed first batch as the run stored it, given its clean inputs; and its examples in order."""
    row = next(r for r in run.rows if (r.case.subject.defence, r.case.attack) == (defence, name))
    unit = next(u for u in run.units_of(row.case))
    evaluation = read_adversarials(run.path, unit)[0]
    outcomes = run.outcomes
    chosen = (outcomes.defence == defence) & (outcomes.attack == name) & (outcomes.batch == 0)
    order = outcomes[chosen].drop_duplicates("slot").sort_values("slot").example.to_list()

    def perturbed(x):
        x = x.clone()
        x[evaluation.slots] = evaluation.x
        return x

    return perturbed, order


class Noisy(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x):
        return self.model(x + 0.1 * torch.randn_like(x))


def test_a_module_that_samples_is_attacked_on_fresh_draws_and_global_generators_are_kept(model, batch):
    x, y = batch
    torch.manual_seed(5)
    one, other, third = (attack(Noisy(model), x, y, "pgd-3", eps=EPS, seed=s) for s in (0, 0, 1))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(one, other) and not torch.equal(one, third)
    # Every step had a draw of its own: the attack with one surrogate draw goes another way.
    assert not torch.equal(one, attack(Noisy(model), x, y, "fixed-pgd-3", eps=EPS, seed=0))


class Centred(nn.Module):
    """Subtracts the mean of the batch that it was fitted to."""

    def __init__(self, model):
        super().__init__()
        self.model, self.mean, self.sizes = model, None, []
        self.eval()

    def fit(self, x):
        self.mean, self.sizes = x.mean(0), [*self.sizes, len(x)]

    def forward(self, x):
        return self.model(x - self.mean)


def test_a_model_that_adapts_to_a_batch_is_always_asked_with_the_whole_batch(model, batch):
    centred = Centred(model)
    attack(centred, *batch, "pgd-20", eps=EPS, seed=0)
    assert set(centred.sizes[1:]) == {K} and len(centred.sizes) == 21


class Labels(nn.Module):
    """Answers with labels, or with random numbers that know nothing of the input."""

    def __init__(self, model, *, blind=False):
        super().__init__()
        self.model, self.blind = model, blind
        self.eval()

    def forward(self, x):
        if self.blind:
            return torch.eye(3)[torch.arange(len(x)) % 3]
        return functional.one_hot(self.model(x).argmax(1), 3).float()


def test_a_model_without_a_graph_is_attacked_through_relaxed_operators(model, batch):
    x, y = batch
    found = attack(Labels(model), x, y, "pgd-20", eps=EPS, seed=0)
    assert torch.equal(found, attack(Labels(model), x, y, "relaxed-pgd-20", eps=EPS, seed=0))
    wrong, bare = (
        (model(z).argmax(1) != y).sum() for z in (found, attack(model, x, y, "pgd-20", eps=EPS, seed=0))
    )
    assert wrong == bare > K / 2


@pytest.mark.parametrize("name", ["pgd-5", *(n for n in NAMES if n.startswith("torchattacks"))])
def test_a_model_that_has_no_gradient_whatever_is_tried_is_refused(model, batch, name):
    words = r"needs a gradient.*has no graph back to its input.*square-1000"
    with pytest.raises(ValueError, match=words) as refused:
        attack(Labels(model, blind=True), *batch, name, eps=EPS, seed=0)
    assert "\n" not in str(refused.value)


def test_a_list_of_images_gives_an_array(model, batch):
    x, y = batch
    perturbed = attack(model, list(x), y, "pgd-2", EPS, seed=0)
    assert torch.equal(torch.from_numpy(perturbed), attack(model, x, y, "pgd-2", EPS, seed=0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "transfer-pgd-5"}, "transfer-pgd-5 asks the base model; give it: base=network"),
        ({"eps": 8}, r"expected eps on the scale of \[0, 1\] \(8/255, not 8\), got 8"),
        ({"x": torch.zeros(K, 64)}, r"x: expected images \[n, C, H, W\].*got float32 \[8, 64\]"),
        ({"x": torch.zeros(K, 1, 9, 9)}, r"the model fails on images \[1, 1, 9, 9\]: RuntimeError"),
        ({"x": torch.full((K, 1, 8, 8), 2.0)}, r"x: expected pixels in \[0, 1\], got \[2, 2\]; divide"),
        ({"model": len}, r"expected logits \[1, classes\], got int"),
        ({"model": object()}, "expected a network or a defence, got object, which lacks name, randomised"),
        (
            {"x": TensorDataset(torch.rand(K, 1, 8, 8), torch.zeros(K))},
            "expected an array or a list of arrays, got TensorDataset",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(model, batch, change, words):
    given = {"model": model, "x": batch[0], "y": batch[1], "name": "pgd-2", "eps": EPS, **change}
    with pytest.raises(ValueError, match=words) as refused:
        attack(**given)
    assert "\n" not in str(refused.value)


def test_a_module_in_training_mode_is_asked_in_evaluation_mode_and_put_back(batch):
    asked = []

    class Watched(nn.Module):
        def forward(self, x):
            asked.append(self.training)
            return x.flatten(1)[:, :3]

    model = nn.Sequential(nn.Dropout(0.9), Watched()).train()
    model[0].eval()
    x = attack(model, batch[0], batch[1], "pgd-2", EPS, seed=0)
    assert x.shape == batch[0].shape
    assert asked
    assert not any(asked)
    assert [m.training for m in model.modules()] == [True, False, True]


def test_batches_are_perturbed_one_by_one_against_the_weights_of_that_moment(model, batch):
    x, y = batch
    changing = nn.Sequential(model)
    seen = []
    for x_adv, labels in attack_batches(changing, [(x, y), [x, y]], "pgd-3", "0.1", seed=5):
        assert labels is y
        seen.append(x_adv)
        changing.append(nn.Linear(3, 3))
    assert torch.equal(seen[0], attack(model, x, y, "pgd-3", "0.1", seed=5))
    assert torch.equal(seen[1], attack(changing[:2], x, y, "pgd-3", "0.1", seed=6))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda x, y: x, r"^batch 1: expected a pair \(x, y\), got Tensor$"),
        (
            lambda x, y: (x, y[:2]),
            r"^batch 1: y: expected y integers \[\d+\], one for each image, got int64 \[2\]$",
        ),
    ],
)
def test_a_batch_that_cannot_be_attacked_is_named(model, batch, second, message):
    with pytest.raises(InputError, match=message):
        list(attack_batches(model, [batch, second(*batch)], "fgsm", 0.1))


def test_a_seed_of_batches_is_a_number(model, batch):
    with pytest.raises(InputError, match=r"^seed 'x' is not a number"):
        list(attack_batches(model, [batch], "fgsm", 0.1, seed="x"))


def by_hand(model, x, y, start):
    """PGD-7 as every tutorial writes it, at a quarter of eps."""
    moved = start
    for _ in range(7):
        moved = moved.detach().requires_grad_()
        functional.cross_entropy(model(moved), y, reduction="sum").backward()
        moved = (moved + EPS / 4 * moved.grad.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    return moved.detach()


@pytest.mark.parametrize("wrong", ["none", "some", "all"])
def test_every_image_gets_every_step_whether_or_not_it_is_misclassified(model, batch, wrong):
    x, y = batch
    y = {"none": y, "some": torch.where(torch.arange(K) % 2 == 0, y, (y + 1) % 3), "all": (y + 1) % 3}[wrong]
    start = attack(model, x, y, "pgd-1@1e-9", EPS, seed=0)  # a step too small to leave it
    ((found, _),) = attack_batches(model, [(x, y)], "pgd-7", EPS, seed=0)
    torch.testing.assert_close(found, by_hand(copy.deepcopy(model), x, y, start), atol=1e-5, rtol=0)
    ((stopped, _),) = attack_batches(model, [(x, y)], "pgd-7", EPS, seed=0, early_stop=True)
    assert functional.cross_entropy(model(found), y) > functional.cross_entropy(model(stopped), y) + 0.01


def test_a_wanted_class_that_is_reached_is_followed_to_the_last_step(model, batch):
    x, y = batch
    goal = (y + 1) % 3
    found, stopped = (
        attack(model, x, y, "pgd-20", 2 * EPS, seed=0, target=goal, early_stop=stop) for stop in (False, True)
    )
    assert (
        functional.cross_entropy(model(found), goal) < functional.cross_entropy(model(stopped), goal) - 0.01
    )
    with pytest.raises(InputError, match=r"^early_stop: expected True or False, got 'no'$"):
        attack(model, x, y, "pgd-2", EPS, early_stop="no")
