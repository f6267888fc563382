"""Candidates by labelled images, by a refitted last layer, and under PGD."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.data.registry import load_data
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.comparison import Attacked, asked, differ, under_attack, unread_features
from robustbench_coded.models.decision import Evidence, Stated, contradictions, options
from robustbench_coded.models.labelled_accuracy import labelled
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.models.recognition_text import as_data, brief


@pytest.fixture(scope="module")
def images():
    data = load_digits("test")
    x = data.batch(range(320))[0]
    return F.interpolate(x, size=(28, 28), mode="bilinear").clamp(0, 1)


def recognised(tmp_path, images, activation, seen):
    """What is made of the weights, and the share of images that it answers as the network does."""
    network = nn.Sequential(nn.Conv2d(1, 4, 4, stride=2, padding=1), activation, nn.Flatten())
    network.extend([nn.Linear(4 * 196, 32), activation, nn.Linear(32, 10)])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 20
            parameter.normal_(0, (2 / fan) ** 0.5, generator=generator)
        logits = network(seen(images))
        network[-1].bias.sub_(logits.mean(0))  # no class is far more frequent than another
        labels = network(seen(images)).argmax(1)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), images, labels)
    return found, float((found.model(images).argmax(1) == labels).double().mean())


@pytest.mark.long
@pytest.mark.parametrize(("activation", "form"), [(nn.Tanh(), "activation=tanh"), (nn.ReLU(), "")])
def test_an_activation_and_a_normalisation_are_found_together(tmp_path, images, activation, form):
    found, right = recognised(tmp_path, images, activation, lambda x: (x - 0.5) / 0.5)
    assert found.choice.name == "half" and found.doubts == ()
    assert form in found.arch and right == 1


@pytest.mark.long
def test_what_is_stated_is_refused_where_it_answers_at_chance(tmp_path, images):
    recognised(tmp_path, images, nn.ReLU(), lambda x: x)
    name = load_checkpoint(tmp_path / "a.pt").arch
    stated = load_checkpoint(tmp_path / "a.pt", arch=f"{name}[activation=tanh]", normalize="none")
    found = recognise_network(stated, images, load_checkpoint(tmp_path / "a.pt").network(images).argmax(1))
    assert found.arch == f"{name}[activation=tanh]"
    assert f"labelled images contradict {name}[activation=tanh] without" in found.warnings[0]
    assert f"try --arch '{name}' --normalize none" in found.warnings[0]
    assert "and chance is 10.0%" in found.refusal


@pytest.mark.long
def test_parts_that_make_up_for_each_other_are_tried_together(tmp_path, images):
    """Mean pooling behind a tanh, on pixels around 0: any one of these alone is answered no better."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(784, 10)
    )
    labels = network((images - 0.5) / 0.5).argmax(1)
    named = {"conv.weight": network[0].weight, "conv.bias": network[0].bias}
    torch.save({**named, "fc.weight": network[4].weight, "fc.bias": network[4].bias}, tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), images, labels)
    assert found.arch.endswith("[pooling=mean,activation=tanh]") and found.choice.name == "half"


IMAGES = 640
STATED = "sequential-8-f64-l64-a-l64-a-l[activation=relu]"


class Skipping(nn.Module):
    """Three linear layers, the second beside a connection around it, which no weight shows."""

    def __init__(self, skips):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.skips = skips

    def features(self, x):
        x = self.fc1(x.flatten(1)).relu()
        return self.fc2(x).relu() + (x if self.skips else 0)

    def forward(self, x):
        return self.fc3(self.features(x))


@pytest.fixture(scope="module")
def digits():
    data = load_data("digits")
    return data.batch(range(IMAGES))


@pytest.fixture
def network(digits):
    """Random but for the last layer, which is fitted to its features."""
    x, y = digits
    torch.manual_seed(0)
    network = Skipping(True).requires_grad_(False)
    known = torch.cat([network.features(x), torch.ones(len(x), 1)], 1)
    fitted = torch.linalg.lstsq(known, 4 * nn.functional.one_hot(y, 10).float()).solution
    network.fc3.weight.copy_(fitted[:-1].T)
    network.fc3.bias.copy_(fitted[-1])
    return network


def said_of(network, x, y):
    return unread_features(network, network, x, y, classes=10)


def test_a_missing_connection_is_noticed_and_the_network_as_it_was_is_believed(network, digits):
    assert said_of(network, *digits) == ()
    network.skips = False
    (said,) = said_of(network, *digits)
    assert said.startswith("its last layer does not read its features: of 640 labelled images ")


def test_classes_without_enough_images_say_nothing(network, digits):
    network.skips = False
    assert said_of(network, *(part[:199] for part in digits)) == ()


def test_a_network_that_ends_in_no_linear_layer_of_its_classes_says_nothing(network, digits):
    network.skips = False
    ended = nn.Sequential(network, nn.Linear(10, 12), nn.Unflatten(1, (12, 1)), nn.Flatten())
    assert said_of(ended, *digits) == ()


def test_a_model_that_answers_in_pieces_is_seen_as_a_whole(network, digits):
    network.skips = False
    x, y = digits
    pieces = partial(torch.split, split_size_or_sections=10)
    said = unread_features(network, lambda x: torch.cat([*map(network, pieces(x))]), x, y, classes=10)
    assert said == said_of(network, x, y) != ()


def test_a_file_read_as_a_stack_without_its_connection_is_refused(network, digits, tmp_path):
    torch.save(network.state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", arch=STATED, normalize="none")
    found = recognise_network(checkpoint, *digits)
    assert any("does not read its features" in said for said in found.warnings)
    assert "and chance is 10.0%" in found.refusal


@pytest.mark.parametrize(("larger", "said"), [(1, False), (100, True)])
def test_logits_far_too_large_are_said(network, digits, larger, said):
    x, y = digits
    own = labelled(lambda x: larger * network(x), x, y)
    none = KNOWN[1]["none"]
    chosen = Evidence(Candidate(STATED, none), labelled=own)
    clauses = list(contradictions(chosen, (), Stated(None, none, "given", None)))
    assert [one.startswith("its logits are ") for one in clauses] == [True] * said


EPS = 0.15


def within(eps):
    return lambda deviation: [PerturbationBudget("linf", eps)]


def standard(path):
    """The same perceptron trained on any brightness and contrast: other normalisations are answered, too."""
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(128)[:9]:
            scale, shift = 1 + 2 * torch.rand(128, 1, 1, 1), torch.rand(128, 1, 1, 1) / 2
            optimiser.zero_grad()
            F.cross_entropy(network(x[rows] * scale - shift), y[rows]).backward()
            optimiser.step()
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def test_images():
    data = load_digits("test")
    return data.batch(range(len(data)))


def test_a_robust_network_is_not_called_broken_by_a_guess(robust_perceptron, test_images):
    found = recognise_network(load_checkpoint(robust_perceptron), *test_images, budgets=within(EPS))
    by_name = {one.form.candidate.normalisation.name: one.accuracy for one in found.attacked}
    assert by_name["none"] - min(by_name.values()) > 0.03
    assert "--normalize none: " in found.refusal and f"linf {EPS}" in found.refusal
    assert all(options(one.form.candidate) in found.refusal for one in found.attacked)
    forms = as_data(found)["attacked"]
    assert {one["normalisation"] for one in forms} == set(by_name) and forms[0]["eps"] == EPS


@pytest.mark.parametrize("normalize", ["none", "mnist"])
def test_what_the_user_states_is_not_asked_about(robust_perceptron, test_images, normalize):
    stated = load_checkpoint(robust_perceptron, normalize=normalize)
    found = recognise_network(stated, *test_images, budgets=within(EPS))
    assert (found.choice.name, found.choice.source, found.refusal) == (normalize, "given", "")


def test_where_all_forms_fall_alike_one_is_taken_and_the_others_are_named(tmp_path, test_images):
    path = standard(tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(path), *test_images, budgets=within(0.4))
    assert found.refusal == ""
    assert len(found.attacked) > 1 and max(one.accuracy for one in found.attacked) < 0.03
    assert "; may also be with" in brief(found)
    assert "under PGD-10 all are within 3 points" in brief(found)


def assembly_of(path, images, weight):
    """A linear network of one layer, and its two forms with and without a shift of the pixels."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    network[1].weight.data = torch.stack([weight, -weight])
    torch.save(network.state_dict(), path)
    return Assembly(load_checkpoint(path), images, torch.device("cpu"))


def test_pgd_finds_exactly_the_images_that_a_linear_network_loses(tmp_path):
    """Its margin is 2 |w x|, and a step of eps in every pixel takes 2 eps |w|_1 off it."""
    generator = torch.Generator().manual_seed(0)
    images = 0.25 + 0.5 * torch.rand(200, 1, 8, 8, generator=generator)  # the box never clips
    weight = torch.randn(64, generator=generator)
    weight -= weight.mean()
    assembly = assembly_of(tmp_path / "a.pt", images, weight)
    scores = images.flatten(1) @ weight
    labels, eps = (scores < 0).long(), 0.02
    arch = assembly.checkpoint.arch
    forms = [
        asked(assembly, Evidence(Candidate(arch, KNOWN[1][name])), labels, 200) for name in ("none", "half")
    ]
    kept = images.clone()
    attacked = under_attack(assembly, forms, labels, within(eps), cost=128)
    assert torch.equal(assembly.images, kept)
    lost = scores.abs() < eps * weight.abs().sum()
    assert 0.1 < float(lost.double().mean()) < 0.9
    # Twice the deviation doubles logits and changes nothing: the sum of the weights is 0.
    assert [one.accuracy for one in attacked] == [pytest.approx(float((~lost).double().mean()))] * 2


def test_forms_with_the_same_answers_are_not_attacked(tmp_path):
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assembly = assembly_of(tmp_path / "a.pt", images, torch.randn(64))
    labels = torch.zeros(100, dtype=torch.long)
    none = Candidate(assembly.checkpoint.arch, KNOWN[1]["none"])
    same = Candidate(f"{none.arch}[activation=elu]", none.normalisation)  # there is no activation
    forms = [asked(assembly, Evidence(one), labels, 100) for one in (none, same)]
    assert under_attack(assembly, forms, labels, within(0.1), cost=128) == []


def test_forms_differ_by_more_than_three_points_under_one_of_the_budgets():
    one = Evidence(Candidate("flat", KNOWN[1]["none"]))

    def attacked(accuracy, eps):
        return Attacked(one, accuracy, PerturbationBudget("linf", eps), 512)

    near = [attacked(0.50, 0.1), attacked(0.0, 0.3), attacked(0.52, 0.1), attacked(0.02, 0.3)]
    assert not differ(near) and not differ([])
    assert differ([*near, attacked(0.04, 0.3)])
