"""Which network a file is: small networks trained here in a second, assembled rightly and wrongly."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.save import save_checkpoint

SHIPPED = Path(__file__).parents[2] / "checkpoints"


def digits(split):
    data = load_digits(split)
    return data.batch(range(len(data)))


@pytest.fixture(scope="module")
def test_images():
    return digits("test")


def trained(arch, normalisation):
    """A digits network after eight epochs, and its accuracy on the test images."""
    x, y = digits("train")
    known = KNOWN[1][normalisation]
    x = (x - known.mean[0]) / known.std[0]
    generator = torch.Generator().manual_seed(0)
    network = build(arch, 10, 1, generator=generator)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=8 * 18)
    for _ in range(8):
        for rows in torch.randperm(len(x), generator=generator).split(64)[:18]:
            optimiser.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@pytest.fixture(scope="module")
def silu(tmp_path_factory):
    """A file that says nothing of its activation, silu, nor of its normalisation, mnist's."""
    path = tmp_path_factory.mktemp("networks") / "silu.pt"
    torch.save(trained("digits-cnn[activation=silu]", "mnist").state_dict(), path)
    return path


def test_a_bare_file_with_batch_norms_is_recognised_as_what_it_is(silu, test_images):
    found = recognise_network(load_checkpoint(silu), *test_images)
    assert (found.candidate.arch, found.candidate.normalisation.name) == (
        "digits-cnn[activation=silu]",
        "mnist",
    )
    assert found.by == ("batch-norms", "recognised")
    assert (found.warnings, found.refusal) == ((), "")
    assert found.labelled.accuracy > 0.9
    assert found.batch_norms.fingerprint.median < 0.005
    model = with_normalisation(load_checkpoint(silu), *test_images)
    assert model.arch == found.candidate.arch
    x, known = test_images[0][:8], KNOWN[1]["mnist"]
    right = load_checkpoint(silu, arch=found.candidate.arch).network
    assert torch.equal(model(x), right((x - known.mean[0]) / known.std[0]))
    assert found.sentence.startswith(
        "taken as digits-cnn[activation=silu] with normalisation mnist (architecture by batch-norms, "
        "normalisation recognised): 3 batch-norms are 0.000"
    )
    assert json.loads(json.dumps(found.as_data()))["sentence"] == found.sentence


def test_without_labels_batch_norms_alone_decide(silu, test_images):
    found = recognise_network(load_checkpoint(silu), test_images[0], None)
    assert (found.candidate.arch, found.candidate.normalisation.name, found.refusal) == (
        "digits-cnn[activation=silu]",
        "mnist",
        "",
    )
    assert found.labelled is None


@pytest.mark.parametrize(
    ("arch", "normalize", "message"),
    [
        ("digits-cnn[activation=relu]", "mnist", "contradict digits-cnn[activation=relu] with normalisation"),
        ("digits-cnn", "mnist", "contradict digits-cnn with normalisation mnist, which is stated"),
        (None, "none", "without normalisation, which is stated"),
        (
            "digits-cnn[activation=relu]",
            "half",
            "contradict digits-cnn[activation=relu] with normalisation half",
        ),
    ],
)
def test_what_is_stated_wrongly_is_evaluated_with_a_warning(silu, test_images, arch, normalize, message):
    found = recognise_network(load_checkpoint(silu, arch=arch, normalize=normalize), *test_images)
    assert (found.candidate.normalisation.name, found.by[1], found.refusal) == (normalize, "given", "")
    assert arch in (None, found.candidate.arch)
    assert message in found.warnings[0]
    assert "try --arch 'digits-cnn[activation=silu]' --normalize mnist" in found.warnings[0]


def test_the_users_own_code_is_evaluated_as_it_is(silu, test_images, tmp_path, monkeypatch):
    """Its batch-norms were taken behind another activation: a warning, or no guess of the normalisation."""
    (tmp_path / "own_code.py").write_text(
        "from robustbench_coded.paper.training.fresh import build\n"
        "def wrong(classes=10): return build('digits-cnn', classes, 1)\n"
        "def right(classes=10): return build('digits-cnn[activation=silu]', classes, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    stated = load_checkpoint(silu, arch="own_code:wrong", normalize="mnist")
    wrong = recognise_network(stated, *test_images)
    assert (wrong.candidate.arch, wrong.candidate.normalisation.name) == ("own_code:wrong", "mnist")
    assert "do not fit these images" in wrong.warnings[0]
    assert "first at bn2" in wrong.warnings[0]
    assert wrong.refusal == ""
    guessed = recognise_network(load_checkpoint(silu, arch="own_code:wrong"), *test_images)
    assert "do not fit these images" in guessed.refusal
    right = recognise_network(load_checkpoint(silu, arch="own_code:right"), *test_images)
    assert (right.warnings, right.refusal, right.candidate.normalisation.name) == ((), "", "mnist")


def test_a_network_that_answers_by_chance_is_refused_whatever_is_stated(silu, test_images):
    x, y = test_images
    stated = load_checkpoint(silu, arch="digits-cnn[activation=silu]", normalize="mnist")
    assert "and chance is 10.0%" in recognise_network(stated, x, (y + 1) % 10).refusal
    with pytest.raises(InputError, match="and chance is"):
        with_normalisation(load_checkpoint(silu), x, (y + 1) % 10)


@pytest.mark.parametrize(("name", "stated", "warned"), [("best_prec1", 96.0, True), ("acc", 77.0, False)])
def test_an_accuracy_far_below_the_files_own_is_said(silu, test_images, name, stated, warned):
    x, y = test_images
    y = torch.where(torch.arange(len(y)) % 4 == 0, (y + 1) % 10, y)  # a quarter of the labels is wrong
    checkpoint = load_checkpoint(silu)
    found = recognise_network(dataclasses.replace(checkpoint, entries={name: stated}), x, y)
    assert found.refusal == ""
    assert [f"its file says {name} {stated:.2f}%" in one for one in found.warnings] == [True] * warned


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["erm", "mixup", "coded", "pgd-at"])
def test_trainings_on_other_inputs_are_not_refused(recipe, test_images):
    """Their batch-norms remember mixed, coded or perturbed digits."""
    found = recognise_network(load_checkpoint(SHIPPED / f"digits-{recipe}.safetensors"), *test_images)
    assert (found.warnings, found.refusal) == ((), "")
    assert (found.candidate.arch, found.by) == ("digits-cnn", ("its metadata", "stored"))


def test_a_stored_normalisation_that_is_wrong_is_contradicted(silu, test_images, tmp_path):
    path = tmp_path / "a.safetensors"
    network = load_checkpoint(silu).network
    metadata = {"arch": "digits-cnn[activation=silu]", "classes": 10, "normalisation": "none"}
    save_checkpoint(path, network, metadata)
    found = recognise_network(load_checkpoint(path), *test_images)
    assert "without normalisation, which is stated" in found.warnings[0]


def test_a_normalisation_of_batch_norms_is_kept_where_labels_prefer_another(tmp_path):
    """The last layer is fitted behind another normalisation than the batch-norms remember."""
    x, y = digits("train")
    network = trained("digits-cnn", "half")
    with torch.no_grad():
        features = []
        network.linear.register_forward_hook(lambda module, given, answer: features.append(given[0]))
        network(x / 1.0)
        known = torch.cat([features[0], torch.ones(len(x), 1)], 1)
        fitted = torch.linalg.lstsq(known, 4 * F.one_hot(y, 10).float()).solution
        network.linear.weight.copy_(fitted[:-1].T)
        network.linear.bias.copy_(fitted[-1])
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), *digits("test"))
    assert (found.candidate.normalisation.name, found.by[1]) == ("half", "recognised")


def test_per_image_normalisation_is_found(tmp_path, test_images, remembering):
    torch.manual_seed(0)
    x, _ = digits("train")
    network = build("digits-cnn", 10, 1)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors")
    own = load_checkpoint(tmp_path / "a.safetensors", arch="digits-cnn[input=per-image]").network
    torch.save(remembering(own, x).network.state_dict(), tmp_path / "b.pt")
    found = recognise_network(load_checkpoint(tmp_path / "b.pt"), test_images[0], None)
    assert (found.candidate.arch, found.candidate.normalisation.name) == (
        "digits-cnn[input=per-image]",
        "none",
    )


@pytest.mark.parametrize(
    ("scale", "shift", "turned", "known"),
    [
        (1 / 255, 0.0, False, True),
        (0.25, 0.5, False, False),  # numbers that no known normalisation has together
        (0.5, 0.5, True, False),  # OpenCV's order of channels
    ],
)
def test_pixels_to_255_are_found_and_what_is_not_known_is_asked_about(
    tmp_path, remembering, scale, shift, turned, known
):
    generator = torch.Generator().manual_seed(0)
    grey, _ = digits("train")
    colours = torch.rand(len(grey), 3, 1, 1, generator=generator) * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)
    x = grey * colours
    network = build("digits-cnn", 10, 3)
    seen = (x - shift) / scale
    network = remembering(network, seen.flip(1) if turned else seen)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, None)
    if known:
        assert (found.candidate.arch, found.candidate.normalisation.name, found.warnings, found.refusal) == (
            "digits-cnn",
            "bytes",
            (),
            "",
        )
        return
    assert "do not fit these images" in found.refusal and "state --arch and --normalize" in found.refusal
    form = "digits-cnn[input=bgr]" if turned else "digits-cnn"
    numbers = "/".join(f"{one},{one},{one}" for one in (shift, scale))
    stated = load_checkpoint(tmp_path / "a.pt", arch=form, normalize=numbers)
    assert recognise_network(stated, x, None).warnings == ()


def test_images_cut_out_in_training_are_asked_about(tmp_path, test_images, remembering):
    """Grey squares move the statistics about as far as another normalisation does."""
    torch.manual_seed(0)
    x, _ = digits("train")
    rows, columns = torch.arange(8).view(1, 1, 8, 1), torch.arange(8)
    top, left = 8 * torch.rand(2, len(x), 1, 1, 1)
    x = torch.where(((rows - top).abs() < 2) & ((columns - left).abs() < 2), x.mean(), x)
    network = load_checkpoint(SHIPPED / "digits-erm.safetensors").network
    known = KNOWN[1]["fashion-mnist"]
    network = remembering(network, (x - known.mean[0]) / known.std[0])
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), test_images[0], None)
    assert "do not fit these images" in found.refusal
