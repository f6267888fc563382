"""Which network a file is: small networks trained here in a second, assembled rightly and wrongly."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.loop import save_checkpoint

SHIPPED = Path(__file__).parents[2] / "checkpoints"


def digits(split):
    data = load_digits(split)
    return data.batch(range(len(data)))


@pytest.fixture(scope="module")
def test_images():
    return digits("test")


def trained(arch, normalisation):
    """A digits network, by its name or as it is, after eight epochs."""
    x, y = digits("train")
    known = KNOWN[1][normalisation]
    x = (x - known.mean[0]) / known.std[0]
    generator = torch.Generator().manual_seed(0)
    network = build(arch, 10, 1, generator=generator) if isinstance(arch, str) else arch
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
def usual(tmp_path_factory):
    """A file that does not say its normalisation, mnist's."""
    path = tmp_path_factory.mktemp("networks") / "usual.pt"
    torch.save(trained("digits-cnn", "mnist").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A file with the names and shapes of a published network, of a definition with SiLU beside it."""
    folder = tmp_path_factory.mktemp("edited")
    (folder / "edited_code.py").write_text(EDITED)
    spec = importlib.util.spec_from_file_location("edited_code", folder / "edited_code.py")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    torch.manual_seed(0)
    torch.save(trained(code.build(), "mnist").state_dict(), folder / "edited.pt")
    return folder / "edited.pt"


EDITED = """
from torch.nn.functional import silu
from robustbench_coded.models.architectures.digits_cnn import DigitsCNN

class Edited(DigitsCNN):
    def _first(self, x):
        return silu(self.bn1(self.conv1(x)))

    def _second(self, x):
        return silu(self.bn2(self.conv2(x)))

    def _last(self, x):
        return self.linear(silu(self.bn3(self.conv3(x))).mean((2, 3)))

def build():
    return Edited(10, 1)
"""


@pytest.mark.parametrize("labelled", [True, False])
def test_a_bare_file_with_batch_norms_is_recognised_with_or_without_labels(usual, test_images, labelled):
    x, y = test_images
    found = recognise_network(load_checkpoint(usual), x, y if labelled else None)
    assert (found.form.arch, found.form.normalisation.name) == ("digits-cnn", "mnist")
    assert found.by == ("names and shapes", "recognised")
    assert (found.warnings, found.refusal) == ((), "")
    assert found.batch_norms.median < 0.005
    assert (found.labelled is not None) == labelled
    known = KNOWN[1]["mnist"]
    model, right = with_normalisation(load_checkpoint(usual), x, y), load_checkpoint(usual).network
    assert torch.equal(model(x[:8]), right((x[:8] - known.mean[0]) / known.std[0]))
    assert found.sentence.startswith(
        "taken as digits-cnn with normalisation mnist (architecture by names and shapes, normalisation "
        "recognised): 3 batch-norms are 0.000"
    )
    assert json.loads(json.dumps(found.as_data()))["sentence"] == found.sentence


def test_an_edited_definition_is_asked_about(edited, test_images):
    """As the published definition it answers most images rightly; its batch-norms say that it is not."""
    found = recognise_network(load_checkpoint(edited), *test_images)
    assert "its batch-norms do not fit these images: as digits-cnn with normalisation" in found.refusal
    assert "or pass --arch file.py:build" in found.refusal and 1 <= len(found.question) <= 3
    assert all("--arch 'digits-cnn' --normalize" in line for line in found.question)
    assert found.labelled.accuracy > 0.8


def test_a_stated_normalisation_that_leaves_one_network_is_evaluated_with_a_warning(edited, test_images):
    """A question would have one line, which says what is stated."""
    found = recognise_network(load_checkpoint(edited, normalize="mnist"), *test_images)
    assert (found.refusal, found.question, found.by[1]) == ("", (), "given")
    assert found.warnings[0].startswith("its batch-norms do not fit these images: as digits-cnn with")
    assert found.warnings[0].endswith("if it is another network, pass --arch file.py:build")


@pytest.mark.parametrize(
    ("arch", "normalize", "message"),
    [
        ("digits-cnn", "none", "contradict digits-cnn without normalisation, which is stated"),
        ("digits-cnn", "half", "contradict digits-cnn with normalisation half, which is stated"),
    ],
)
def test_what_is_stated_wrongly_is_evaluated_with_a_warning(usual, test_images, arch, normalize, message):
    found = recognise_network(load_checkpoint(usual, arch=arch, normalize=normalize), *test_images)
    assert (found.form.normalisation.name, found.by[1], found.refusal) == (normalize, "given", "")
    assert found.form.arch == arch
    (said,) = [one for one in found.warnings if message in one]
    assert said.endswith("try --arch 'digits-cnn' --normalize mnist")


def test_the_users_own_code_is_evaluated_as_it_is(edited, test_images, monkeypatch):
    """Batch-norms that were taken behind another activation: a warning, or no guess of the normalisation."""
    monkeypatch.chdir(edited.parent)
    stated = load_checkpoint(edited, arch="digits-cnn", normalize="mnist")
    wrong = recognise_network(stated, *test_images)
    assert wrong.refusal == ""
    assert "do not fit these images" in wrong.warnings[0] and ", first at bn" in wrong.warnings[0]
    guessed = recognise_network(load_checkpoint(edited, arch="digits-cnn"), *test_images)
    assert "do not fit these images" in guessed.refusal
    right = recognise_network(load_checkpoint(edited, arch="edited_code.py:build"), *test_images)
    assert (right.warnings, right.refusal, right.form.normalisation.name) == ((), "", "mnist")


OF_PIXELS = """
import torch
from robustbench_coded.models.architectures.digits_cnn import DigitsCNN

class Ranged(DigitsCNN):
    def forward(self, x):
        assert x.min() >= 0 and x.max() <= 1
        return super().forward(x)

class Noisy(DigitsCNN):
    def forward(self, x):
        return super().forward(x + 0.4 * torch.randn_like(x))

ranged, noisy = lambda: Ranged(10, 1), lambda: Noisy(10, 1)
"""


@pytest.mark.parametrize("network", ["ranged", "noisy"])
def test_a_network_that_reads_pixels_in_its_own_way_is_taken_as_stated(network, test_images, tmp_path):
    """One takes no others, of one the noise would be nothing beside pixels to 255."""
    (tmp_path / "of_pixels.py").write_text(OF_PIXELS)
    torch.save(trained("digits-cnn", "none").state_dict(), tmp_path / "net.pt")
    arch = f"{tmp_path / 'of_pixels.py'}:{network}"
    stated = recognise_network(
        load_checkpoint(tmp_path / "net.pt", arch=arch, normalize="none"), *test_images
    )
    assert (stated.refusal, stated.form.normalisation.name) == ("", "none")
    assert "contradict" not in " ".join(stated.warnings)
    asked = recognise_network(load_checkpoint(tmp_path / "net.pt", arch=arch), *test_images)
    assert asked.form.normalisation.name == "none"


def test_a_network_that_answers_by_chance_is_refused_whatever_is_stated(usual, test_images):
    x, y = test_images
    stated = load_checkpoint(usual, arch="digits-cnn", normalize="mnist")
    assert "and chance is 10.0%" in recognise_network(stated, x, (y + 1) % 10).refusal
    with pytest.raises(InputError, match="and chance is"):
        with_normalisation(load_checkpoint(usual), x, (y + 1) % 10)


def test_at_chance_the_normalisation_that_is_right_and_the_other_network_are_named(
    tmp_path, usual, test_images
):
    x, y = test_images
    network = load_checkpoint(usual).network
    other = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": other, "ema_state_dict": network.state_dict()}, tmp_path / "two.pt")
    found = recognise_network(
        load_checkpoint(tmp_path / "two.pt", arch="digits-cnn", normalize="mnist"), x, y
    )
    assert "; FILE#ema_state_dict evaluates another" in found.refusal
    (tmp_path / "bytes.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    means = torch.stack([x[y == label].mean(0).flatten() for label in range(10)])
    bytes_only = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    bytes_only[1].weight.data = means / 255
    bytes_only[1].bias.data = -means.square().sum(1) / 2  # without pixels up to 255, always one class
    torch.save(bytes_only.state_dict(), tmp_path / "bytes.pt")
    arch = f"{tmp_path}/bytes.py:build"
    found = recognise_network(load_checkpoint(tmp_path / "bytes.pt", arch=arch, normalize="none"), x, y)
    assert found.refusal.endswith(f"% are: --arch '{arch}' --normalize bytes")


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["erm", "mixup", "coded", "pgd-at"])
def test_trainings_on_other_inputs_are_not_refused(recipe, test_images):
    """Their batch-norms remember mixed, coded or perturbed digits."""
    found = recognise_network(load_checkpoint(SHIPPED / f"digits-{recipe}.safetensors"), *test_images)
    assert (found.warnings, found.refusal) == ((), "")
    assert (found.form.arch, found.by) == ("digits-cnn", ("its metadata", "stored"))


def test_a_stored_normalisation_that_is_wrong_is_contradicted(usual, test_images, tmp_path):
    path = tmp_path / "a.safetensors"
    metadata = {"arch": "digits-cnn", "classes": 10, "normalisation": "none"}
    save_checkpoint(path, load_checkpoint(usual).network, metadata)
    found = recognise_network(load_checkpoint(path), *test_images)
    assert any("without normalisation, which is stated" in one for one in found.warnings)


def test_a_normalisation_of_batch_norms_is_kept_where_labels_prefer_another(reloaded):
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
    found = recognise_network(reloaded(network.state_dict()), *digits("test"))
    assert found.form.normalisation.name == "half"  # asked about, where labels prefer another by far
    assert found.by[1] == "recognised" or "contradict digits-cnn with normalisation half" in found.refusal


def test_a_stated_normalisation_far_from_all_batch_norms_is_asked_about(reloaded, remembering):
    """Another normalisation is clearly nearer than each network behind the stated one."""
    x = torch.rand(256, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    known = KNOWN[3]["imagenet"]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (known.mean, known.std))
    network = remembering(build("wrn-10-1", 10), (x - mean) / std)
    found = recognise_network(reloaded(network.state_dict(), normalize="bytes"), x, None)
    assert len(found.question) == 2 and all("--normalize bytes" in line for line in found.question)
    assert "try --arch 'wrn-10-1' --normalize imagenet" in found.refusal


def test_per_image_normalisation_is_found(reloaded, remembering):
    torch.manual_seed(0)
    x = torch.rand(256, 3, 16, 16) * torch.rand(256, 1, 1, 1)
    network = remembering(build("wrn-10-1-per-image", 10), x)
    found = recognise_network(reloaded(network.state_dict()), x, None)
    assert found.form.arch == "wrn-10-1-per-image"


@pytest.mark.parametrize(
    ("scale", "shift", "known"),
    [
        (1 / 255, 0.0, True),
        (0.25, 0.5, False),  # numbers that no known normalisation has together
    ],
)
def test_pixels_to_255_are_found_and_what_is_not_known_is_asked_about(
    reloaded, remembering, scale, shift, known
):
    generator = torch.Generator().manual_seed(0)
    grey, _ = digits("train")
    colours = torch.rand(len(grey), 3, 1, 1, generator=generator) * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)
    x = grey * colours
    weights = remembering(build("digits-cnn", 10, 3), (x - shift) / scale).state_dict()
    found = recognise_network(reloaded(weights), x, None)
    if known:
        assert (found.form.arch, found.form.normalisation.name, found.warnings, found.refusal) == (
            "digits-cnn",
            "bytes",
            (),
            "",
        )
        return
    assert "do not fit these images" in found.refusal
    numbers = "/".join(f"{one},{one},{one}" for one in (shift, scale))
    stated = reloaded(weights, arch="digits-cnn", normalize=numbers)
    assert recognise_network(stated, x, None).warnings == ()


def test_images_cut_out_in_training_are_asked_about(reloaded, test_images, remembering):
    """Grey squares move the statistics about as far as another normalisation does."""
    torch.manual_seed(0)
    x, _ = digits("train")
    rows, columns = torch.arange(8).view(1, 1, 8, 1), torch.arange(8)
    top, left = 8 * torch.rand(2, len(x), 1, 1, 1)
    x = torch.where(((rows - top).abs() < 2) & ((columns - left).abs() < 2), x.mean(), x)
    network = load_checkpoint(SHIPPED / "digits-erm.safetensors").network
    known = KNOWN[1]["fashion-mnist"]
    network = remembering(network, (x - known.mean[0]) / known.std[0])
    found = recognise_network(reloaded(network.state_dict()), test_images[0], None)
    assert "do not fit these images" in found.refusal
