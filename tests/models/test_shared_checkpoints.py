"""Checkpoints by others and their stated accuracies; skipped where they are not beside the checkout."""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import recognise_network

SHARED = Path(__file__).parents[3] / "shared"
CHECKPOINTS = SHARED / "checkpoints"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="needs ../shared/checkpoints"),
]


@pytest.fixture(scope="module")
def cifar10():
    """The first 2,000 test images, [n, 3, 32, 32] in [0, 1], and their labels."""
    spec = importlib.util.spec_from_file_location("unpack", SHARED / "data" / "unpack.py")
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    images = unpack.tiles(SHARED / "data" / "cifar10" / "test-0.webp")[:2000]
    labels = np.load(SHARED / "data" / "cifar10" / "labels.npz")["test"][:2000].astype(np.int64)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


@pytest.fixture(scope="module")
def recognised(cifar10):
    """What a file is recognised as; each is looked at once."""
    return lru_cache(lambda file: recognise_network(load_checkpoint(CHECKPOINTS / file), *cifar10))


@torch.no_grad()
def accuracy(model, images, labels):
    right = [model(x).argmax(1) == y for x, y in zip(images.split(50), labels.split(50))]
    return torch.cat(right).double().mean().item()


@pytest.mark.parametrize(
    ("file", "arch", "stated"),
    [("resnet20-12fca82f.th", "resnet20", 0.9173), ("resnet32-d509ac18.th", "resnet32", 0.9263)],
)
def test_files_trained_on_cuda_by_others_give_their_stated_accuracy(recognised, file, arch, stated):
    checkpoint = load_checkpoint(CHECKPOINTS / file)
    assert (checkpoint.arch, checkpoint.classes, checkpoint.channels) == (arch, 10, 3)
    assert checkpoint.layout.prefixes == ("module.",)
    assert checkpoint.layout.nesting == ("state_dict",)
    found = recognised(file)
    assert (found.form.normalisation.name, found.by[1]) == ("imagenet", "recognised")
    right = found.labelled
    assert right.accuracy == pytest.approx(
        stated, abs=3 * (stated * (1 - stated) / len(right.correct)) ** 0.5
    )


def test_accuracy_would_have_chosen_a_wrong_normalisation(cifar10, recognised):
    found = recognised("resnet20-12fca82f.th")
    assert (found.form.arch, found.form.normalisation.name, found.warnings) == (
        "resnet20",
        "imagenet",
        (),
    )
    wrong = KNOWN[3]["cifar10-2023"]
    right = with_normalisation(load_checkpoint(CHECKPOINTS / "resnet20-12fca82f.th"), *cifar10)
    other = PixelModel(right.network, wrong.mean, wrong.std, classes=10, arch="resnet20")
    few = tuple(part[:512] for part in cifar10)
    assert accuracy(other, *few) > accuracy(right, *few)


@pytest.mark.parametrize(("training", "stated"), [("erm", 0.8868), ("mixup", 0.8613), ("coded", 0.8929)])
def test_files_with_their_normalisation_inside_need_no_guess(cifar10, training, stated):
    checkpoint = load_checkpoint(CHECKPOINTS / f"resnet20-{training}.safetensors")
    assert (checkpoint.arch, checkpoint.normalisation.name) == ("resnet20", "imagenet")
    model = with_normalisation(checkpoint, *cifar10)
    assert checkpoint.normalisation_source == "stored"
    # 500 images stand for 10,000: three standard errors. Without the normalisation it is below 60%.
    assert accuracy(model, *(part[:500] for part in cifar10)) == pytest.approx(stated, abs=0.045)
