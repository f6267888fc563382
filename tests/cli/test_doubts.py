"""What makes an evaluation say little is told before it runs."""

import pytest
import torch

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.paper.training.fresh import build


def notes(ckpt, **options):
    config = EvalConfig((("mine", str(ckpt)),), data="digits", threads=1, attacks=("fgsm",), **options)
    return prepare(config).notes


def matching(texts, word):
    return [text for text in texts if word in text]


def test_few_or_many_coded_inputs_are_said():
    options = {"limit": 32, "batch_size": (16,)}
    said = notes("digits-erm", defences=("rci:N=12", "rci:N=65", "rci:N=64", "coded:N=16"), **options)
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
