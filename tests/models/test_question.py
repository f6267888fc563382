"""What is asked where nothing decides which network a file is, and what is stated instead."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.candidates import NONE_OF_THESE
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network

STACK = "sequential-8-f64-l64-a-l"


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


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "a.pt"
    return trained(path, nn.Tanh(), lambda x: (x - 0.5) / 0.5)


def test_a_question_has_three_lines_with_the_images_they_rest_on_and_the_last_way_out(
    robust_perceptron, test_images
):
    found = recognise_network(load_checkpoint(robust_perceptron), *test_images)
    assert found.refusal == (
        "neither its weights nor its file say its activations and normalisation. State the "
        "network as it was trained, as in one of these lines (right answers of labelled images): an "
        "adversarially trained network may answer more rightly behind a wrong normalisation, so labels do "
        "not choose; `csrobust eval --guess` takes the first line"
    )
    *lines, last = found.question.lines
    assert last == NONE_OF_THESE == "  if none of these is your network, pass --arch file.py:build"
    assert len(lines) == 3
    right = [line for line in lines if line.startswith(f"  --arch '{STACK}' --normalize none  (9")]
    assert len(right) == 1 and right[0].endswith(f"% of {len(test_images[0])})")
    accuracies = [row.accuracy for row in found.question.labelled]
    assert accuracies == sorted(accuracies, reverse=True)
    with pytest.raises(InputError) as error:
        with_normalisation(load_checkpoint(robust_perceptron), *test_images)
    assert str(error.value).splitlines()[1].startswith("  --arch '")


def test_a_guess_takes_the_first_line_and_says_so(robust_perceptron, test_images):
    checkpoint = load_checkpoint(robust_perceptron)
    asked = recognise_network(checkpoint, *test_images)
    found = recognise_network(checkpoint, *test_images, guess=True)
    assert found.by[0] == "--guess" and found.refusal == ""
    assert found.candidate == asked.question.choices[0]
    assert "(architecture by --guess, normalisation guessed)" in found.sentence


@pytest.mark.parametrize("normalize", ["none", "half"])
@pytest.mark.parametrize("guess", [False, True])
def test_a_stated_normalisation_stays_under_its_name_in_questions_and_guesses(
    perceptron, test_images, normalize, guess
):
    found = recognise_network(load_checkpoint(perceptron, normalize=normalize), *test_images, guess=guess)
    assert (found.candidate.normalisation.name, found.by[1]) == (normalize, "given")
    assert (found.question is None) == guess
    if found.question is not None:
        assert {one.normalisation.name for one in found.question.choices} == {normalize}
        assert "say its activations. State" in found.refusal


def test_behind_a_stated_normalisation_the_lines_differ_in_activations(perceptron, test_images):
    found = recognise_network(load_checkpoint(perceptron, normalize="half"), *test_images)
    lines = {one.arch for one in found.question.choices}
    assert len(lines) == 3 and STACK.replace("-a-", "-tanh-") in lines  # the true one
    for arch in lines:
        stated = load_checkpoint(perceptron, arch=arch, normalize="half")
        assert recognise_network(stated, *test_images).refusal == ""


def test_what_is_stated_is_evaluated_and_labels_that_contradict_it_warn(perceptron, test_images):
    tanh = STACK.replace("-a-", "-tanh-")
    right = recognise_network(load_checkpoint(perceptron, arch=tanh, normalize="half"), *test_images)
    assert (right.refusal, right.warnings, right.candidate.arch) == ("", (), tanh)
    wrong = recognise_network(load_checkpoint(perceptron, arch=tanh, normalize="1.5/0.5"), *test_images)
    assert (wrong.refusal, str(wrong.candidate.normalisation)) == ("", "1.5/0.5")
    assert wrong.warnings[0].startswith(f"its labelled images contradict {tanh} with normalisation 1.5/0.5")


def test_where_even_the_best_line_is_at_chance_the_images_may_be_others(perceptron, test_images):
    x, y = test_images
    found = recognise_network(load_checkpoint(perceptron), x, y[torch.randperm(len(y))])
    assert (
        "even the best of these lines answers as by chance, so the images may not be its own" in found.refusal
    )
    guessed = recognise_network(load_checkpoint(perceptron), x, (y + 1) % 10, guess=True)
    assert "and chance is 10.0%" in guessed.refusal  # a network at chance is not evaluated


@pytest.mark.parametrize(("activation", "token"), [(nn.ELU(), "elu"), (nn.LeakyReLU(), "leakyrelu")])
def test_a_pickled_module_says_its_activation(tmp_path, test_images, activation, token):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation, nn.Linear(16, 10))
    torch.save(network, tmp_path / "whole.pt")
    checkpoint = load_checkpoint(tmp_path / "whole.pt", normalize="none")
    assert checkpoint.activation == type(activation).__name__
    x = test_images[0]
    found = recognise_network(checkpoint, x, network(x).argmax(1))
    assert f"(its pickle holds torch.nn.{checkpoint.activation})" in found.refusal
    first = found.question.choices[0]
    assert first.arch == f"sequential-8-f64-l16-{token}-l" and found.question.labelled[0].accuracy == 1
    stated = load_checkpoint(tmp_path / "whole.pt", arch=first.arch, normalize="none")
    torch.testing.assert_close(stated.network(x), network(x))


def test_a_single_matrix_has_no_activation_to_ask_about_unless_neurons_may_spike(tmp_path, test_images):
    x, _ = test_images
    for bias, asked in ((True, False), (False, True)):
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=bias)).state_dict(), tmp_path / "a.pt")
        checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
        found = recognise_network(checkpoint, x, checkpoint.network(x).argmax(1))
        assert (found.question is not None) == asked


def test_without_labels_the_lines_have_no_figures(robust_perceptron, test_images):
    found = recognise_network(load_checkpoint(robust_perceptron), test_images[0], None)
    assert found.question.lines[0] == f"  --arch '{STACK}' --normalize none"
    assert len(found.question.lines) == 4


def test_own_code_with_one_hot_answers_and_no_normalisation_is_asked_about(
    robust_perceptron, test_images, tmp_path, monkeypatch
):
    """Its answers have no gradients."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onehot.py").write_text(
        "from torch import nn\n"
        "from torch.nn.functional import one_hot\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x): return one_hot(super().forward(x).argmax(1), 10).float()\n"
        "def build(): return Net(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))\n"
    )
    checkpoint = load_checkpoint(robust_perceptron, arch="onehot.py:build", image_shape=(1, 8, 8))
    found = recognise_network(checkpoint, *test_images)
    assert found.refusal.startswith("neither its weights nor its file say its normalisation")
    assert {one.arch for one in found.question.choices} == {"onehot.py:build"}
