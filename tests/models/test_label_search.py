"""Networks without batch-norm: random ones, whose own answers are the labels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.data.digits import load_digits
from robustbench_coded.models import label_search
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.decision import Evidence, Stated, chosen_among
from robustbench_coded.models.label_search import among_many, asked, less_sure, told_apart
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.models.witnesses import Labelled

pytestmark = pytest.mark.long


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


@pytest.mark.parametrize(("activation", "form"), [(nn.Tanh(), "activation=tanh"), (nn.ReLU(), "")])
def test_an_activation_and_a_normalisation_are_found_together(tmp_path, images, activation, form):
    found, right = recognised(tmp_path, images, activation, lambda x: (x - 0.5) / 0.5)
    assert found.choice.name == "half" and found.contradictions == ()
    assert form in found.arch and right == 1


def test_a_combination_of_numbers_without_a_name_is_found(tmp_path, images):
    found, right = recognised(tmp_path, images, nn.ReLU(), lambda x: 255 * x - 127.5)
    assert found.choice.mean == (0.5,) and found.choice.std == pytest.approx((1 / 255,))
    assert right > 0.99


def test_white_paper_instead_of_black_is_refused(tmp_path, images):
    found, right = recognised(tmp_path, images, nn.ReLU(), lambda x: 1 - x)
    assert right < 0.9
    assert "inverted (1 - x) 100.0%: its training laid out images otherwise" in found.contradictions[-1]


def test_an_activation_that_is_stated_wrongly_is_contradicted_also_by_the_usual_one(tmp_path, images):
    recognised(tmp_path, images, nn.ReLU(), lambda x: x)
    name = load_checkpoint(tmp_path / "a.pt").arch
    stated = load_checkpoint(tmp_path / "a.pt", arch=f"{name}[activation=tanh]", normalize="none")
    found = recognise_network(stated, images, load_checkpoint(tmp_path / "a.pt").network(images).argmax(1))
    assert found.arch == f"{name}[activation=tanh]"
    assert f"labelled images contradict {name}[activation=tanh] on none" in found.contradictions[0]
    assert f"try --arch '{name}' --normalize none" in found.contradictions[0]


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


def test_the_normalisation_of_another_data_set_has_to_be_clearly_better():
    def one(name, losses):
        logits = torch.zeros(len(losses), 10)
        rightly = torch.arange(len(losses)) < 90
        said = Labelled(len(losses), 90, float(losses.mean()), 1.0, losses, logits, rightly)
        return Evidence(Candidate("flat", KNOWN[1][name]), labelled=said)

    noise = torch.rand(100, generator=torch.Generator().manual_seed(0))
    own, other = one("mnist", 0.1 + noise), one("fashion-mnist", 0.09 + noise.flip(0))
    far = one("fashion-mnist", 0.5 * noise)
    stated, foreign = Stated(None, None, "guessed", None), {KNOWN[1]["fashion-mnist"]}
    assert chosen_among([own, other], stated) is other
    assert chosen_among([own, other], stated, foreign) is own
    assert chosen_among([own, far], stated, foreign) is far


def test_forms_that_answer_otherwise_are_asked_about_more_images_until_one_is_worse(tmp_path, images):
    """A stack whose own answers are the labels, and the same with mean pooling."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10)
    )
    labels = network(images).argmax(1)
    named = {"conv.weight": network[0].weight, "conv.bias": network[0].bias}
    torch.save({**named, "fc.weight": network[4].weight, "fc.bias": network[4].bias}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assembly = Assembly(checkpoint, images, torch.device("cpu"))
    one, other = (
        asked(assembly, Evidence(Candidate(checkpoint.arch + form, KNOWN[1]["none"])), labels, 4)
        for form in ("", "[pooling=mean]")
    )
    assert one.same_as(other)
    one, (other,) = told_apart(assembly, one, [other], labels, cost=1)
    assert other.worse_than(one) and one.labelled.examples < 320
    dear = told_apart(assembly, one, [asked(assembly, other, labels, 320)], labels, cost=10**12)
    assert dear[0].labelled.examples == one.labelled.examples


def test_what_explains_the_labels_as_well_is_kept_beside_what_is_chosen(tmp_path, images, monkeypatch):
    """relu6, where no activation reaches 6, and sigmoid, which answers otherwise."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 10))
    labels = network(images).argmax(1)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assembly = Assembly(checkpoint, images, torch.device("cpu"))
    relu, relu6, sigmoid = (
        Evidence(Candidate(checkpoint.arch + form, KNOWN[1]["none"]))
        for form in ("", "[activation=relu6]", "[activation=sigmoid]")
    )
    monkeypatch.setattr(label_search, "_screened", lambda *_: [relu6, sigmoid])
    chosen = asked(assembly, relu, labels, 320)
    stated = Stated(None, KNOWN[1]["none"], "given", None)
    found = among_many(assembly, chosen, [KNOWN[1]["none"]], stated, labels, 320, cost=1)
    assert [one.candidate for one in found] == [relu.candidate, relu6.candidate]


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_a_form_that_is_as_accurate_and_not_too_sure_is_taken(tmp_path, images, scale):
    """Labels are drawn from a softplus network's probabilities; or its logits are far too small for them."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Softplus(), nn.Linear(16, 10))
    with torch.no_grad():
        network[1].weight.mul_(4)
        network[3].weight.mul_(8)
        logits = network(images)
        labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
        network[3].weight.mul_(scale)
        network[3].bias.mul_(scale)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assembly = Assembly(checkpoint, images, torch.device("cpu"))
    none, large = KNOWN[1]["none"], KNOWN[1]["bytes"]
    chosen = asked(assembly, Evidence(Candidate(checkpoint.arch, large)), labels, 320)
    assert chosen.too_sure
    found = less_sure(
        assembly, chosen, [none, large], Stated(None, None, "guessed", None), labels, 320, cost=1
    )
    own = Candidate(f"{checkpoint.arch}[activation=softplus]", none)
    assert found.candidate == (own if scale == 1 else chosen.candidate)
    stated = Stated(checkpoint.arch, None, "guessed", None)
    assert less_sure(assembly, chosen, [none, large], stated, labels, 320, cost=1) is chosen
