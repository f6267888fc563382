"""Which images an evaluation takes, and that everybody takes the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_coded import evaluate
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel


def toy(count=40):
    """Every image holds its own number."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 1))
    return Dataset("toy", pixels.copy(), 255.0, np.arange(count, dtype=np.int64) // 10, 4, (), "made here")


def test_a_random_part_is_numbered_as_in_the_whole():
    data = toy()
    part = evaluated(data, 8, first=False, seed=0)
    assert np.bincount(part.labels).tolist() == [2, 2, 2, 2]
    x, y = part.batch(range(8))
    assert part.numbers.tolist() == (x[:, 0, 0, 0] * 255).round().int().tolist()
    assert torch.equal(y, torch.from_numpy(data.labels[part.numbers]))
    assert part.numbers.tolist() == evaluated(data, 8, first=False, seed=0).numbers.tolist()
    assert part.numbers.tolist() != evaluated(data, 8, first=False, seed=1).numbers.tolist()


@pytest.mark.parametrize("limit", [8, None, 40])
def test_the_first_come_in_the_order_of_the_data(limit):
    part = evaluated(toy(), limit, first=True, seed=0)
    assert part.numbers.tolist() == list(range(limit or 40))


def test_all_come_in_random_order_so_that_the_first_of_them_are_a_sample():
    part = evaluated(toy(400), None, first=False, seed=0)
    assert sorted(part.numbers.tolist()) == list(range(400))
    assert len(set(part.labels[:100])) > 20  # of 40 classes, which stand one behind the other in the data


@pytest.mark.parametrize("first", [False, True])
def test_repeated_images_are_taken_once_and_numbered_as_they_were_given(first):
    rows = np.repeat(np.arange(40), 2)
    data = replace(toy(), images=toy().images[rows], labels=toy().labels[rows])
    part = evaluated(data, None, first=first, seed=0)
    assert sorted(part.numbers) == list(range(0, 80, 2))
    assert part.sha256 == evaluated(toy(), None, first=first, seed=0).sha256
    for limit in (40, 60, 80):  # workers are told how many there are
        assert evaluated(data, limit, first=first, seed=0).numbers.tolist() == part.numbers.tolist()
    relabelled = replace(data, labels=np.arange(80) % 4)
    assert len(evaluated(relabelled, None, first=first, seed=0)) == 80


@pytest.mark.parametrize("limit", [-1, 0, 41])
def test_a_limit_outside_the_data_is_refused(limit):
    with pytest.raises(InputError, match="count from 1 to 40"):
        evaluated(toy(), limit, first=False, seed=0)


def test_outcomes_of_data_in_memory_name_the_images_they_belong_to(tmp_path):
    checkpoint = load_checkpoint("checkpoints/digits-erm.safetensors")
    model = PixelModel(
        checkpoint.network, checkpoint.normalisation.mean, checkpoint.normalisation.std, classes=10, arch=""
    ).eval()
    x, y = load_data("digits").batch(range(200))
    run = evaluate(
        model, (x, y), defences=["rci:N=12"], attacks="fgsm", limit=20, batch_size=8, draws=2,
        threads=1, out=tmp_path / "run",
    )  # fmt: skip
    assert run.manifest.identity.subset == "stratified"
    clean = run.outcomes[(run.outcomes.attack == "clean") & (run.outcomes.defence == "standard")]
    example = clean.example.to_numpy()
    assert len(set(example)) == 20 and example.max() > 19
    assert (y.numpy()[example] == clean.label).all()
    with torch.no_grad():
        assert (model(x[example.tolist()]).argmax(-1).numpy() == clean.prediction).all()
