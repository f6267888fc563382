"""What makes an evaluation say little is told before it runs, and stands in everything that it writes."""

import html
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from robustbench_coded import evaluate
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.paper.training.fresh import build


def notes(ckpt, **options):
    config = EvalConfig((("mine", str(ckpt)),), data="digits", threads=1, attacks=("fgsm",), **options)
    return prepare(config).notes


def matching(texts, word):
    return [text for text in texts if word in text]


def test_few_or_many_coded_inputs_are_said():
    options = {"limit": 32, "batch_size": (16,)}
    said = notes("digits-erm", defence=("rci:N=12", "rci:N=65", "rci:N=64", "coded:N=16"), **options)
    assert matching(said, "the paper takes") == [
        "N = 12 is less than K = 16: decoding loses clean accuracy; the paper takes N from K to 1.5K",
        "N = 65 is 4.1 times K = 16, and so is the cost; the paper takes N from K to 1.5K",
    ]


def test_weights_that_nobody_trained_are_said_of_a_model_in_memory_and_refused_of_a_file(tmp_path):
    torch.manual_seed(0)
    fresh = build("digits-cnn", 10, 1)
    config = EvalConfig((), data="digits", threads=1, attacks=("fgsm",), limit=64)
    (said,) = matching(prepare(config, InMemory(models={"mine": fresh})).notes, "by chance")
    assert said.startswith("mine gets ") and said.endswith("are its weights trained, and on these data?")
    assert matching(notes("digits-erm", limit=64), "by chance") == []
    torch.save(fresh.state_dict(), tmp_path / "fresh.pt")
    with pytest.raises(InputError, match=r"fresh.pt: \d+\.\d% of .*and chance is 10.0%: it is not trained"):
        notes(tmp_path / "fresh.pt", limit=64, normalize="none")


def test_images_of_one_class_do_not_make_a_network_one_by_chance():
    """Of ten it always names the right one; nothing says that it would name it whatever the image."""
    config = EvalConfig((), threads=1, attacks=("fgsm",), eps=(0.01,), batch_size=(8,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        network[1].bias[3] = 9
    for label, doubted in ((3, False), (4, True)):
        data = dataset_in_memory((torch.rand(32, 1, 8, 8), torch.full((32,), label)), classes=10)
        said = prepare(config, InMemory(data=data, models={"mine": network})).notes
        assert bool(matching(said, "as by chance")) == doubted


torch.manual_seed(0)
X, Y = torch.rand(16, 1, 8, 8), torch.arange(16) % 2
BINARY = X.round().byte()
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
UNTRAINED = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
NETWORK[1].weight.data = (2 * Y.float() - 1) @ (X.flatten(1) - 0.5) * torch.tensor([[-1.0], [1.0]])
nn.init.zeros_(NETWORK[1].bias)
PARTLY = nn.Sequential(NETWORK, nn.Dropout(0.1)).eval()
PARTLY[1].train()
SMALL = {"attacks": "fgsm", "eps": 0.01, "batch_size": 8, "draws": 2}


class Told(Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Still:
    """Is declared random, and draws nothing."""

    name, randomised, batch_dependent, base = "still", True, False, NETWORK

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return NETWORK(x)


def sampled():
    """64 images drawn from the 16."""
    data = TensorDataset(X, Y)
    sampler = RandomSampler(data, True, 64, torch.Generator().manual_seed(0))
    return DataLoader(data, 8, sampler=sampler)


def stored(tmp_path):
    np.savez(tmp_path / "data.npz", x=BINARY.numpy(), y=Y.numpy())
    return f"npz:{tmp_path / 'data.npz'}"


def markdown(run):
    return (run.path / "report.md").read_text().replace("\\", "")


DOUBTS = {
    "each twice": (
        {"data": (X.repeat(2, 1, 1, 1), Y.repeat(2))},
        "in memory: 32 images, of which 16 differ in pixels or label; each is evaluated once",
    ),
    "with replacement": ({"data": sampled}, "in memory: 64 images, of which 16 differ"),
    "bytes of 0 and 1": ({"data": (BINARY, Y)}, "in memory: the uint8 pixels are all 0 or 1, so 1 is taken"),
    "such bytes in a file": ({"data": stored}, "data.npz: the uint8 pixels are all 0 or 1, so 1 is taken"),
    "chance": ({"models": UNTRAINED}, "clean examples right, as by chance: are its weights trained"),
    "training mode": ({"defences": {"own": PARTLY}}, "own on model: layers in training mode: 1"),
    "draws": ({"defences": [Still()]}, "still on model: is declared randomised, but 4 draws gave the same"),
}


@pytest.mark.filterwarnings("ignore:in training mode")
@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_doubt_is_one_sentence_in_every_format(doubt, tmp_path):
    given, said = DOUBTS[doubt]
    given = {"models": NETWORK, "data": (X, Y), **given}
    if callable(make := given["data"]):
        given["data"] = make(tmp_path) if make is stored else make()
    told = Told()
    run = evaluate(**given, **SMALL, listener=told, out=tmp_path / "run")
    (sentence,) = matching(run.manifest.notes, said)
    assert told.notes.count(sentence) == 1
    assert json.loads((run.path / "run.json").read_text())["notes"].count(sentence) == 1
    assert run.as_data()["notes"].count(sentence) == 1
    assert html.unescape((run.path / "report.html").read_text()).count(sentence) == 1
    assert html.unescape(run._repr_html_()).count(sentence) == 1
    assert markdown(run).count(sentence) == 1


def test_what_a_network_was_taken_for_stands_once_in_a_report(tmp_path):
    model = "checkpoints/digits-erm.safetensors"
    run = evaluate(model, "digits", attacks="fgsm", limit=16, listener=Listener(), out=tmp_path / "run")
    (sentence,) = matching(run.manifest.notes, "digits-cnn")
    assert "normalisation stored" in sentence and markdown(run).count("normalisation stored") == 1


def test_images_that_repeat_give_the_figures_of_each_once(tmp_path):
    wrong = torch.where(torch.arange(16) < 6, 1 - Y, Y)  # 10 of 16 are right
    once, often = (
        evaluate(NETWORK, data, **SMALL, listener=Listener(), out=tmp_path / name)
        for name, data in (("once", (X, wrong)), ("often", (X.repeat(8, 1, 1, 1), wrong.repeat(8))))
    )
    figures = ["attack", "examples", "accuracy", "ci_low", "ci_high"]
    assert once.summary[figures].equals(often.summary[figures])
    clean = often.summary[often.summary.attack == "clean"].iloc[0]
    assert (clean.examples, clean.accuracy) == (16, 0.625)
    assert (clean.ci_low, clean.ci_high) == pytest.approx((0.354, 0.848), abs=1e-3)
    assert often.manifest.data.available == 16
