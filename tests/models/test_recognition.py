"""Which network a file is: small networks trained here in a second, assembled rightly and wrongly."""

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.data.augment import images_of_kind
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.models.build import build
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.decision import Evidence, Stated, contradictions, plausible, tied, unfamiliar
from robustbench_coded.models.fingerprint import Fingerprint
from robustbench_coded.models.labelled_accuracy import Labelled
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.metadata import save_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network, with_normalisation
from robustbench_coded.models.recognition_text import as_data, brief, sentence
from robustbench_coded.models.search import InputProcessing, Search

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


def test_a_bare_file_is_recognised_as_what_it_is(silu, test_images):
    found = recognise_network(load_checkpoint(silu), *test_images)
    assert (found.arch, found.choice.name, found.choice.source) == (
        "digits-cnn[activation=silu]",
        "mnist",
        "guessed",
    )
    assert found.doubts == ()
    assert found.chosen.labelled.accuracy > 0.9
    assert found.chosen.fingerprint.median < 0.005
    model = with_normalisation(load_checkpoint(silu), *test_images)
    assert found.choice.name == "mnist" and model.arch == found.arch
    x = test_images[0][:8]
    assert torch.equal(model(x), found.model(x))
    taken = "recognised as digits-cnn[activation=silu] with MNIST's normalisation (guessed): "
    assert sentence(found).startswith(taken)
    short = brief(found)
    assert short.startswith(f"{taken}9")
    assert "% of 640 images right, 3 batch-norms 0.000" in short and len(short) < 3 * 76


def test_without_labels_batch_norms_alone_decide_and_say_what_they_do_not_see(silu, test_images):
    found = recognise_network(load_checkpoint(silu), test_images[0], None)
    assert (found.arch, found.choice.name) == ("digits-cnn[activation=silu]", "mnist")
    assert found.chosen.labelled is None
    assert found.unseen == ("pooling",)
    assert "no witness saw pooling: taken as usual" in sentence(found)


@pytest.mark.parametrize(
    ("arch", "normalize", "message"),
    [
        ("digits-cnn[activation=relu]", "mnist", "contradict digits-cnn[activation=relu] with MNIST's"),
        ("digits-cnn", "mnist", "contradict digits-cnn with MNIST's normalisation, which is stated"),
        (None, "none", "without normalisation, which is stated"),
        ("digits-cnn[activation=relu]", "half", "contradict digits-cnn[activation=relu] with pixels from -1"),
    ],
)
def test_what_is_stated_wrongly_is_evaluated_with_a_warning(silu, test_images, arch, normalize, message):
    found = recognise_network(load_checkpoint(silu, arch=arch, normalize=normalize), *test_images)
    assert (found.arch, found.choice.name) == (arch or "digits-cnn[activation=silu]", normalize)
    assert (found.choice.source, found.refusal) == ("given", "")
    assert message in found.warnings[0]
    assert "try --arch 'digits-cnn[activation=silu]' --normalize mnist" in found.warnings[0]


def test_the_users_own_code_is_evaluated_as_it_is(silu, test_images, tmp_path, monkeypatch):
    """Its batch-norms were taken behind another activation: a warning, or no guess of the normalisation."""
    (tmp_path / "own_code.py").write_text(
        "from robustbench_coded.models.build import build\n"
        "def wrong(classes=10): return build('digits-cnn', classes, 1)\n"
        "def right(classes=10): return build('digits-cnn[activation=silu]', classes, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    stated = load_checkpoint(silu, arch="own_code:wrong", normalize="mnist")
    wrong = recognise_network(stated, *test_images)
    assert (wrong.arch, wrong.choice.name) == ("own_code:wrong", "mnist")
    assert "do not fit these images" in wrong.doubts[0]
    assert "bn2 is the first layer beyond" in wrong.doubts[0]
    assert wrong.refusal == ""
    guessed = recognise_network(load_checkpoint(silu, arch="own_code:wrong"), *test_images)
    assert "do not fit these images" in guessed.refusal
    right = recognise_network(load_checkpoint(silu, arch="own_code:right"), *test_images)
    assert (right.doubts, right.choice.name) == ((), "mnist")


def test_labels_that_are_not_the_networks_are_contradicted(silu, test_images):
    x, y = test_images
    found = recognise_network(load_checkpoint(silu), x, (y + 1) % 10)
    assert "would be with 10 classes in another order" in found.refusal
    stated = load_checkpoint(silu, arch="digits-cnn[activation=silu]", normalize="mnist")
    assert recognise_network(stated, x, (y + 1) % 10).refusal == found.refusal  # it answers at chance
    swapped = torch.where(y < 2, 1 - y, y)
    found = recognise_network(stated, x, swapped)
    assert found.refusal == ""
    assert any("2 classes in another order" in one for one in found.warnings)


def test_where_all_are_far_from_what_is_remembered_the_usual_variant_is_taken():
    def one(arch, score):
        seen = Fingerprint(("bn1", "bn2"), (score, score), 512)
        return Evidence(Candidate(arch, KNOWN[1]["none"]), "plain", seen)

    nothing = Stated(None, None, "guessed", None)
    for usual, other, taken in ((0.0115, 0.0074, 0), (0.0024, 0.0015, 1), (0.02, 0.0074, 1)):
        pair = [one("digits-cnn", usual), one("digits-cnn[activation=elu]", other)]
        assert tied(pair, nothing)[0] is pair[taken]


def test_an_accuracy_far_below_the_stated_one_is_contradicted(silu, test_images):
    checkpoint = load_checkpoint(silu)
    x, y = test_images
    y = torch.where(torch.arange(len(y)) % 4 == 0, (y + 1) % 10, y)  # a quarter of the labels is wrong
    assert recognise_network(checkpoint, x, y).doubts == ()
    layout = dataclasses.replace(checkpoint.layout, entries={"best_prec1": 96.0})
    found = recognise_network(dataclasses.replace(checkpoint, layout=layout), x, y)
    assert "its file says best_prec1 96.00%" in found.refusal
    stated = load_checkpoint(silu, normalize="mnist")
    found = recognise_network(dataclasses.replace(stated, layout=layout), x, y)
    assert found.refusal == "" and "its file says best_prec1 96.00%" in found.warnings[0]


@pytest.mark.parametrize(
    ("arch", "named", "normalisation", "score", "refused"),
    [
        ("digits-cnn", None, None, 0.003, False),
        ("digits-cnn", None, None, 0.009, True),
        ("digits-cnn", None, "none", 0.009, False),
        ("digits-cnn", None, None, 0.0045, True),
        ("digits-cnn[input=bgr]", "digits-cnn[input=bgr]", None, 0.0045, True),
        ("digits-cnn[input=bgr]", "digits-cnn[input=bgr]", "none", 0.006, False),
        ("digits-cnn[activation=silu]", None, "none", 0.009, True),
        ("digits-cnn[activation=silu]", "digits-cnn[activation=silu]", "none", 0.009, False),
        ("digits-cnn[activation=silu]", "digits-cnn[activation=silu]", "none", 0.02, True),
    ],
)
def test_a_guess_has_to_be_nearer_to_what_is_remembered(arch, named, normalisation, score, refused):
    seen = Fingerprint(("bn1", "bn2"), (score, score), 512)
    chosen = Evidence(Candidate(arch, KNOWN[1]["none"]), "plain", seen)
    known = None if normalisation is None else KNOWN[1][normalisation]
    stated = Stated(named, known, "given" if known else "guessed", None)
    said = unfamiliar(chosen, stated)
    assert (said is not None) == refused
    assert said is None or "do not fit these images" in said


def shortfall(name, stated, right):
    """What is said of a network that answers ``right`` of 2,000 images, beside the accuracy in its file."""
    labelled = Labelled(2000, right, 0.3, 1.0, torch.zeros(2000), torch.empty(0), torch.arange(2000) < right)
    chosen = Evidence(Candidate("flat", KNOWN[1]["none"]), labelled=labelled)
    return list(contradictions(chosen, [], Stated(None, None, "guessed", (name, stated))))


def test_an_accuracy_on_test_images_is_believed_to_two_points_and_any_other_to_five():
    # 91.3% of 2,000: at most 92.8% by the 99% interval.
    assert shortfall("best_prec1", 0.945, 1826) == []
    assert "its file says best_prec1 95.50%" in shortfall("best_prec1", 0.955, 1826)[0]
    assert shortfall("acc", 0.955, 1826) == []
    assert "its file says acc 98.50%" in shortfall("acc", 0.985, 1826)[0]
    assert shortfall("test_acc", 0.5, 1826) == []  # it may be of attacked images


def test_where_too_few_images_leave_the_stated_accuracy_open_more_are_asked(silu, test_images, monkeypatch):
    from robustbench_coded.models import recognition

    for name in ("COMPARED", "LABELLED"):
        monkeypatch.setattr(recognition, f"{name}_MULTIPLICATIONS", 0)
    checkpoint = load_checkpoint(silu)
    x, y = test_images
    y = torch.where(torch.arange(len(y)) % 16 == 0, (y + 1) % 10, y)
    assert recognise_network(checkpoint, x, y).chosen.labelled.examples == 64
    layout = dataclasses.replace(checkpoint.layout, entries={"test_acc": 97.5})
    found = recognise_network(dataclasses.replace(checkpoint, layout=layout), x, y)
    assert found.chosen.labelled.examples > 64
    assert "its file says test_acc 97.50%" in found.refusal


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["erm", "mixup", "coded", "pgd-at"])
def test_trainings_on_other_inputs_are_not_refused(recipe, test_images):
    """Their batch-norms remember mixed, coded or perturbed digits."""
    found = recognise_network(load_checkpoint(SHIPPED / f"digits-{recipe}.safetensors"), *test_images)
    assert (found.doubts, found.arch, found.choice.source) == ((), "digits-cnn", "stored")


def test_a_stored_normalisation_that_is_wrong_is_contradicted(silu, test_images, tmp_path):
    path = tmp_path / "a.safetensors"
    network = load_checkpoint(silu).network
    metadata = {"arch": "digits-cnn[activation=silu]", "classes": 10, "normalisation": "none"}
    save_checkpoint(path, network, metadata)
    found = recognise_network(load_checkpoint(path), *test_images)
    assert "without normalisation, which is stated" in found.warnings[0]


def test_per_image_normalisation_is_found(tmp_path, test_images):
    torch.manual_seed(0)
    x, _ = digits("train")
    network = build("digits-cnn", 10, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors")
    own = load_checkpoint(tmp_path / "a.safetensors", arch="digits-cnn[input=per-image]").network
    for module in own.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    own.train()(x)
    torch.save(own.network.state_dict(), tmp_path / "b.pt")
    found = recognise_network(load_checkpoint(tmp_path / "b.pt"), test_images[0], None)
    assert (found.arch, found.choice.name) == ("digits-cnn[input=per-image]", "none")


@pytest.mark.parametrize(
    ("scale", "shift", "turned", "known"),
    [
        (1 / 255, 0.0, False, True),
        (0.25, 0.5, False, False),  # numbers that no known normalisation has together
        (0.5, 0.5, True, False),  # OpenCV's order of channels
    ],
)
def test_pixels_to_255_are_found_and_what_is_not_known_is_asked_about(tmp_path, scale, shift, turned, known):
    generator = torch.Generator().manual_seed(0)
    grey, _ = digits("train")
    colours = torch.rand(len(grey), 3, 1, 1, generator=generator) * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)
    x = grey * colours
    network = build("digits-cnn", 10, 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    seen = (x - shift) / scale
    network.train()(seen.flip(1) if turned else seen)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, None)
    if known:
        assert (found.arch, found.choice.name, found.doubts) == ("digits-cnn", "bytes", ())
        return
    assert "do not fit these images" in found.refusal and "with --normalize" in found.refusal
    form = "digits-cnn[input=bgr]" if turned else "digits-cnn"
    numbers = "/".join(f"{one},{one},{one}" for one in (shift, scale))
    stated = load_checkpoint(tmp_path / "a.pt", arch=form, normalize=numbers)
    assert recognise_network(stated, x, None).doubts == ()


def test_images_cut_out_in_training_are_asked_about(tmp_path, test_images):
    """Grey squares move the statistics about as far as another normalisation does."""
    torch.manual_seed(0)
    x, _ = digits("train")
    rows, columns = torch.arange(8).view(1, 1, 8, 1), torch.arange(8)
    top, left = 8 * torch.rand(2, len(x), 1, 1, 1)
    x = torch.where(((rows - top).abs() < 2) & ((columns - left).abs() < 2), x.mean(), x)
    network = load_checkpoint(SHIPPED / "digits-erm.safetensors").network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    known = KNOWN[1]["fashion-mnist"]
    network.train()((x - known.mean[0]) / known.std[0])
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), test_images[0], None)
    assert "do not fit these images" in found.refusal


def test_without_batch_norms_labelled_images_decide(tmp_path, monkeypatch, test_images):
    (tmp_path / "flat_code.py").write_text(
        "from torch import nn\n"
        "def flat(classes=10):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    x, y = digits("train")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        F.cross_entropy(network((x - 0.1307) / 0.3081), y).backward()
        optimiser.step()
    torch.save(network.state_dict(), "flat.pt")
    checkpoint = load_checkpoint("flat.pt", arch="flat_code:flat")
    checkpoint = dataclasses.replace(checkpoint, channels=1, normalisation=None)
    found = recognise_network(checkpoint, *test_images)
    assert (found.choice.name, found.doubts) == ("mnist", ())
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    network.load_state_dict(untrained.state_dict())
    torch.save(network.state_dict(), "untrained.pt")
    checkpoint = load_checkpoint("untrained.pt", arch="flat_code:flat", normalize="none")
    checkpoint = dataclasses.replace(checkpoint, channels=1, normalisation=KNOWN[1]["none"])
    assert "its weights are not trained" in recognise_network(checkpoint, *test_images).refusal


def test_the_evidence_is_plain_data(silu, test_images):
    import json

    data = json.loads(json.dumps(as_data(recognise_network(load_checkpoint(silu), *test_images))))
    assert data["chosen"]["batch_norms"]["layers"] == 3
    assert data["chosen"]["labelled"]["examples"] == 640
    assert data["stated"] == {"architecture": None, "normalisation": None, "accuracy": None}


def test_kinds_of_images_are_compared_again_where_much_is_left(tmp_path, test_images):
    network = build("digits-cnn", 10, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()(images_of_kind("shifted", digits("train")[0]))
    torch.save(network.state_dict(), tmp_path / "a.pt")
    assembly = Assembly(load_checkpoint(tmp_path / "a.pt"), test_images[0], torch.device("cpu"))
    search = Search(assembly, [KNOWN[1]["none"]], per_image=10**6)
    right, other = (
        Candidate(arch, KNOWN[1]["none"]) for arch in ("digits-cnn", "digits-cnn[activation=elu]")
    )
    again = search._on_another_kind(right, "noisy", ["digits-cnn[activation=elu]"])
    assert again == [(right, "shifted"), (other, "shifted")]
    assert search._on_another_kind(right, "shifted", ["digits-cnn[activation=elu]"]) == []


def test_a_wrong_part_does_not_hide_which_normalisation_is_right(tmp_path, test_images, monkeypatch):
    """Behind what is nearest with the usual parts, no form is right; it is behind the other one."""
    network = build("digits-cnn", 10, 1)
    network.train()(images_of_kind("shifted", test_images[0]))  # its batch-norms remember something
    torch.save(network.state_dict(), tmp_path / "a.pt")
    assembly = Assembly(load_checkpoint(tmp_path / "a.pt"), test_images[0], torch.device("cpu"))
    none, half = (KNOWN[1][name] for name in ("none", "half"))
    search = Search(assembly, [none, half], per_image=10**6)
    usual, silu = "digits-cnn", "digits-cnn[activation=silu]"
    away = {(usual, none): 0.007, (usual, half): 0.0073, (silu, none): 0.0075, (silu, half): 0.0003}

    def seen(candidate, kind, images, layers=None):
        distance = away.get((candidate.arch, candidate.normalisation), 0.1)
        return Fingerprint(("bn1", "bn2"), (distance, distance), images)

    monkeypatch.setattr(assembly, "fingerprint", seen)
    processings = [InputProcessing(none, None, "plain"), InputProcessing(half, None, "plain")]
    assert search._ends([usual, silu], processings, [])[0].candidate == Candidate(silu, half)


def judged_by_labels(loss, rival_loss, rival_right, *, distances=None, accuracy=None):
    """A stated normalisation beside another on a thousand images, without batch-norms or at ``distances``."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.rand(1000, generator=generator)
    candidates = [Candidate("flat", KNOWN[1][name]) for name in ("mnist", "none")]
    said = [
        Labelled(1000, right, mean, 1.0, mean + sign * noise, torch.empty(0), torch.arange(1000) < right)
        for right, mean, sign in ((980, loss, 1), (rival_right, rival_loss, -1))
    ]
    seen = [None, None] if distances is None else [Fingerprint(("1", "2"), (d, d), 512) for d in distances]
    chosen, other = (
        Evidence(one, None, fingerprint, labelled=its)
        for one, fingerprint, its in zip(candidates, seen, said, strict=True)
    )
    says = None if accuracy is None else ("accuracy", accuracy)
    stated = Stated(None, KNOWN[1]["mnist"], "given", says)
    return chosen, other, list(contradictions(chosen, [other], stated))


def test_labels_alone_contradict_a_stated_normalisation_only_beyond_doubt():
    _, _, found = judged_by_labels(0.06, 0.05, 981)
    assert "its labelled images contradict flat with MNIST's normalisation" in found[0]
    assert found[0].endswith("try --arch 'flat' --normalize none")
    assert judged_by_labels(0.06, 0.05, 970)[2] == []  # fewer right answers
    chosen, other, found = judged_by_labels(0.0, 0.0999, 981)
    assert found == [] and chosen.same_as(other)


def test_a_more_usual_form_contradicts_what_is_stated_sooner():
    chosen, other, found = judged_by_labels(0.0, 0.0937, 981)  # by 3.5 standard errors
    assert 3 < chosen.labelled.worse_than(other.labelled) < 4 and found == []
    stated = Stated(None, KNOWN[1]["mnist"], "given", None)
    unusual = dataclasses.replace(
        chosen, candidate=dataclasses.replace(chosen.candidate, arch="flat[activation=gelu]")
    )
    assert "contradict flat[activation=gelu] with MNIST's" in next(contradictions(unusual, [other], stated))
    both = dataclasses.replace(
        other, candidate=dataclasses.replace(other.candidate, arch="flat[activation=silu]")
    )
    assert list(contradictions(unusual, [both], stated)) == []


def test_right_answers_come_before_the_cross_entropy():
    """As of an adversarially trained network that another form makes surer: the labels, image by image."""
    chosen, other, found = judged_by_labels(0.0, 0.2, 998)  # 18 more right answers, 4.2 standard errors
    assert other.labelled.worse_than(chosen.labelled) > 3
    assert chosen.worse_than(other) and not other.worse_than(chosen) and not chosen.same_as(other)
    assert "flat without normalisation explains the labels better, and answers 99.80% of 1000" in found[0]
    assert plausible([chosen, other]) == [other, chosen] == plausible([other, chosen])
    chosen, other, found = judged_by_labels(0.0, 0.2, 984)  # 4 more: 2 standard errors
    assert other.worse_than(chosen) and found == []


def form(right, *, arch="flat", name="none", temperature=1.0, rare=0):
    """A form that answers the first ``right`` of a thousand images rightly."""
    rightly = torch.arange(1000) < right
    logits = torch.nn.functional.one_hot(torch.where(rightly, 0, 1), 10).double()
    losses = 1.0 - 0.5 * rightly.double()
    said = Labelled(1000, right, float(losses.mean()), temperature, losses, logits, rightly)
    return Evidence(Candidate(arch, KNOWN[1][name]), labelled=said, rare=rare)


def test_forms_within_five_points_of_the_best_are_all_plausible():
    best, near, far = form(970), form(925, name="mnist"), form(915, name="half")
    assert plausible([far, near, best]) == [best, near]


def test_an_unusual_form_is_plausible_where_it_is_better_beyond_chance():
    usual, unusual = form(950), form(955, arch="flat[activation=gelu]")
    assert plausible([usual, unusual]) == [usual]
    unusual = form(959, arch="flat[activation=gelu]")  # beyond chance, but not by a point
    assert plausible([usual, unusual]) == [usual, unusual]
    unusual = form(959, arch="flat[pooling=mean]")
    assert plausible([usual, unusual]) == [unusual, usual]
    unusual = form(985, arch="flat[activation=gelu]")
    assert plausible([usual, unusual]) == [unusual, usual]
    other_data = form(955, name="fashion-mnist", rare=1)
    assert plausible([usual, other_data]) == [usual, other_data]


def test_logits_that_are_far_too_large_are_not_plausible_beside_others():
    usual, large = form(950), form(960, name="bytes", temperature=200.0)
    assert plausible([large, usual]) == [usual]
    assert plausible([large]) == [large]


def test_labels_contradict_what_is_stated_where_batch_norms_do_not_prefer_it():
    said = judged_by_labels(0.06, 0.05, 981, distances=(0.003, 0.0028))[2]
    assert any("its labelled images contradict flat with MNIST's normalisation" in clause for clause in said)
    said = judged_by_labels(0.06, 0.05, 981, distances=(0.003, 0.0032))[2]
    assert not any("contradict" in clause for clause in said)
