"""What is asked where nothing but labels could choose, and what is stated instead."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import standing_under_pgd
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models import candidates
from robustbench_coded.models.candidates import Candidate, Labelled
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network

EPS = 0.15
STACK = "sequential-8-f64-l64-a-l"


def within(eps):
    return lambda deviation: PerturbationBudget("linf", eps)


@pytest.fixture(scope="module")
def test_images():
    data = load_digits("test")
    return data.batch(range(len(data)))


def trained(path, activation, seen):
    """A perceptron of digits without batch-norms, behind ``seen``."""
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), activation, nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(network(seen(x)), y).backward()
        optimiser.step()
    torch.save(network.state_dict(), path)
    return path


def test_a_question_has_the_figures_and_the_options_of_every_candidate(robust_perceptron, test_images):
    found = recognise_network(load_checkpoint(robust_perceptron), *test_images, budget=within(EPS))
    assert found.refusal == (
        "neither its weights nor its file say its activation and normalisation, and labels alone do not "
        "decide: an adversarially trained network may answer more rightly behind a wrong normalisation. "
        "State the network as it was trained, as in one of these lines (accuracy on clean images, and under "
        "PGD-10 at linf 0.15); `csrobust eval --guess` takes the first one"
    )
    lines = found.question.lines
    assert 1 < len(lines) <= 5
    right = [line for line in lines if line.startswith(f"  --arch '{STACK}' --normalize none  (9")]
    assert len(right) == 1 and "% of 512; " in right[0] and right[0].endswith("% of 64)")
    accuracies = [one.accuracy for one in found.question.choices]
    assert accuracies == sorted(accuracies, reverse=True)
    robust = dict(
        zip((one.candidate.normalisation.name for one in found.question.choices), found.question.standing)
    )
    assert robust["none"] > min(robust.values()) + 3  # another normalisation would be called broken
    with pytest.raises(InputError) as error:
        with_normalisation(load_checkpoint(robust_perceptron), *test_images)
    assert str(error.value).splitlines()[1].startswith("  --arch '")


def test_a_guess_takes_the_first_line_and_says_so(robust_perceptron, test_images):
    checkpoint = load_checkpoint(robust_perceptron)
    asked = recognise_network(checkpoint, *test_images, budget=within(EPS))
    found = recognise_network(checkpoint, *test_images, budget=within(EPS), guess=True)
    assert found.by[0] == "--guess" and found.refusal == ""
    assert found.candidate == asked.question.choices[0].candidate
    assert "(architecture by --guess, normalisation guessed)" in found.sentence


@pytest.mark.parametrize("normalize", ["none", "mnist"])
def test_what_the_user_states_is_not_asked_about(robust_perceptron, test_images, normalize):
    stated = load_checkpoint(robust_perceptron, arch=STACK, normalize=normalize)
    found = recognise_network(stated, *test_images)
    assert (found.candidate.arch, found.candidate.normalisation.name, found.refusal) == (STACK, normalize, "")
    assert found.by == ("--arch", "given")


@pytest.mark.parametrize(("activation", "normalize"), [(nn.LeakyReLU(0.1), None), (nn.ReLU(), "half")])
def test_without_batch_norms_no_form_is_taken_in_silence(tmp_path, test_images, activation, normalize):
    """Labels prefer other forms by a little, as they did of files that were once evaluated as these."""
    path = trained(tmp_path / "a.pt", activation, lambda x: (x - 0.5) / 0.5)
    found = recognise_network(load_checkpoint(path, normalize=normalize), *test_images)
    assert "say its activation" in found.refusal
    assert ("and normalisation" in found.refusal) == (normalize is None)
    names = {one.candidate.normalisation.name for one in found.question.choices}
    assert names == {"half"} if normalize else len(names) > 1


def test_labels_contradict_what_is_stated_with_a_warning(tmp_path, test_images):
    path = trained(tmp_path / "a.pt", nn.Tanh(), lambda x: (x - 0.5) / 0.5)
    stated = load_checkpoint(path, arch=STACK, normalize="half")
    found = recognise_network(stated, *test_images)
    assert found.refusal == "" and found.candidate.arch == STACK
    said = f"labelled images contradict {STACK} with normalisation half: {STACK}[activation="
    assert said in found.warnings[0]
    right = load_checkpoint(path, arch=f"{STACK}[activation=tanh]", normalize="half")
    assert recognise_network(right, *test_images).warnings == ()


def test_a_linear_network_has_no_activation_to_ask_about(tmp_path, test_images):
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
    labels = checkpoint.network(test_images[0]).argmax(1)
    assert recognise_network(checkpoint, test_images[0], labels).refusal == ""


def test_without_labels_what_to_state_is_said(robust_perceptron, test_images):
    found = recognise_network(load_checkpoint(robust_perceptron), test_images[0], None)
    assert found.refusal.endswith("its activation and normalisation; state --arch and --normalize")
    assert found.question.lines == ()


def test_a_large_network_is_asked_about_with_fewer_images_and_is_not_attacked(
    robust_perceptron, test_images, monkeypatch
):
    for name in ("SCREENED", "COMPARED", "ATTACK"):
        monkeypatch.setattr(candidates, f"{name}_MULTIPLICATIONS", 0)
    found = recognise_network(load_checkpoint(robust_perceptron), *test_images)
    assert all(line.endswith("% of 16; not attacked)") for line in found.question.lines)


@pytest.mark.long
def test_the_work_of_a_question_is_bounded(tmp_path, monkeypatch):
    """Of a network of 14 million multiplications: fewer than 10 s at 20e9 a second."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 1000), nn.ReLU(), nn.Linear(1000, 10)),
    )
    torch.save(network.state_dict(), tmp_path / "a.pt")
    x = torch.rand(256, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    forwards = []
    model = candidates.Assembly.model

    def counted(assembly, candidate):
        made = model(assembly, candidate)
        made.register_forward_hook(lambda module, given, answer: forwards.append(len(given[0])))
        return made

    monkeypatch.setattr(candidates.Assembly, "model", counted)
    with torch.no_grad():
        network[-1].bias -= network(x).mean(0)
        labels = network(x).argmax(1)
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, labels)
    assert found.question is not None
    assert sum(forwards) * 14e6 < 200e9


def test_pgd_finds_exactly_the_images_that_a_linear_network_loses():
    """Its margin is 2 |w x|, and a step of eps in every pixel takes 2 eps |w|_1 off it."""
    generator = torch.Generator().manual_seed(0)
    x = 0.25 + 0.5 * torch.rand(200, 1, 8, 8, generator=generator)  # the box never clips
    weight = torch.randn(64, generator=generator)
    weight -= weight.mean()
    scores = x.flatten(1) @ weight
    y, eps, kept = (scores < 0).long(), 0.02, x.clone()

    def model(x):
        return (x.flatten(1) @ weight)[:, None] * torch.tensor([1.0, -1.0])

    lost = scores.abs() < eps * weight.abs().sum()
    assert 0.1 < float(lost.double().mean()) < 0.9
    assert standing_under_pgd(model, x, y, PerturbationBudget("linf", eps), 10) == int((~lost).sum())
    assert torch.equal(x, kept)


def form(right, *, parts="", name="none"):
    """A form that answers the first ``right`` of a thousand images rightly."""
    return Labelled(Candidate(f"flat{parts}", KNOWN[1][name]), torch.arange(1000) < right)


def test_of_forms_that_labels_do_not_tell_apart_the_most_usual_one_is_shown():
    usual, leaky = form(950), form(955, parts="[activation=leaky-relu]")
    assert candidates._shown([leaky, usual])[0] is usual
    clearly = form(990, parts="[activation=tanh]")
    assert candidates._shown([leaky, usual, clearly])[0] is clearly


def test_every_normalisation_has_a_line_before_further_forms_and_what_is_far_below_has_none():
    forms = [form(990, parts=f"[activation={name}]") for name in ("elu", "selu", "mish", "silu", "gelu")]
    others = [form(right, name=name) for right, name in ((960, "mnist"), (985, "half"), (700, "bytes"))]
    shown = candidates._shown([*forms, *others])
    assert len(shown) == 5
    assert [one.candidate.normalisation.name for one in shown[:3]] == ["none", "half", "mnist"]
