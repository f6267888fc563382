"""Trainings: what they write, seeds, and what is shown of them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training import loader, loop
from robustbench_coded.paper.training.config import (
    CodedRecipe,
    Erm,
    ManifoldMixup,
    Mixup,
    PgdAt,
    TrainConfig,
    one_cycle,
)
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.loader import EpochRow, Progress, stream, train_validation
from robustbench_coded.paper.training.loop import state_path, train, train_seeds
from tests.paper.training.conftest import Interruption, config

RECIPES = [CodedRecipe(), Mixup(), ManifoldMixup(before=(0, 2)), PgdAt(eps=0.1, steps=2, step_size=0.1)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_a_killed_run_goes_on_to_the_same_bytes(npz, tmp_path, recipe):
    settings = config(npz, recipe=recipe, augmentation="shift")
    train(settings, tmp_path / "whole.safetensors")
    killed = Interruption(at=(1, 3))
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "killed.safetensors", bar=killed)
    assert not (tmp_path / "killed.safetensors").exists()
    resumed = Interruption()
    result = train(settings, tmp_path / "killed.safetensors", bar=resumed)
    assert resumed.started == (3, 6) and [row.epoch for row in result.history] == [1, 2, 3]
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.safetensors", "whole.safetensors"]


def test_a_run_neither_reads_nor_moves_the_global_generator(npz, tmp_path):
    contents = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train(config(npz, epochs=1), tmp_path / "a.safetensors")
        assert torch.equal(torch.get_rng_state(), before)
        contents.append((tmp_path / "a.safetensors").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_initial_weights(npz, tmp_path, seed):
    train(config(npz, epochs=1, seed=seed, learning_rate=0.0), tmp_path / "a.safetensors")
    expected = build("digits-cnn", 10, 1, generator=stream(seed, "initialisation")).state_dict()
    weights = load_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    assert all(
        torch.equal(weights[key], expected[key]) for key in ("conv1.weight", "conv3.weight", "linear.bias")
    )


def test_order_and_randomness_are_new_in_every_epoch_and_the_rate_follows_the_schedule(
    npz, tmp_path, monkeypatch
):
    batches, draws, rates = [], [], []
    loss, step = Erm.__call__, torch.optim.SGD.step

    def recorded_loss(self, stages, x, y, moment):
        batches.append(x.sum().item())
        draws.append(torch.rand((), generator=moment.generator).item())
        return loss(self, stages, x, y, moment)

    def recorded_step(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(Erm, "__call__", recorded_loss)
    monkeypatch.setattr(torch.optim.SGD, "step", recorded_step)
    train(config(npz, schedule="milestones", milestones=(1,), learning_rate=0.02), tmp_path / "a.safetensors")
    assert len(set(batches)) == len(set(draws)) == 18
    assert rates == pytest.approx([0.02] * 6 + [0.002] * 12)
    rates.clear()
    train(config(npz, learning_rate=0.02), tmp_path / "b.safetensors")
    assert rates == pytest.approx([one_cycle((i + 0.5) / 18, 0.02) for i in range(18)])


def test_a_checkpoint_says_what_it_is_and_loads_without_options(npz, tmp_path):
    settings = config(npz, recipe=CodedRecipe(mu=0.25), epochs=6, test_data="digits")
    result = train(settings, tmp_path / "a.safetensors")
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    metadata = checkpoint.metadata
    assert (checkpoint.arch, checkpoint.classes, checkpoint.channels) == ("digits-cnn", 10, 1)
    assert (metadata["recipe"], metadata["options"]["mu"], metadata["data"]) == ("coded", 0.25, npz)
    assert (metadata["epochs"], metadata["seed"], metadata["n_last"]) == (6, 0, 48)
    assert metadata["image_shape"] == [1, 8, 8] and metadata["versions"]["torch"] == torch.__version__
    x, y = load_data("digits").batch(range(640))
    model = with_normalisation(checkpoint, x, y)
    accuracy = (model(x).argmax(1) == y).float().mean().item()
    assert checkpoint.normalisation_source == "stored"
    assert metadata["accuracy"] == pytest.approx(accuracy, abs=1e-6) == pytest.approx(result.test.accuracy)
    assert accuracy > 0.6
    assert result.history[-1].loss < 0.5 * result.history[0].loss


def test_best_and_last_epochs_are_kept_apart(npz, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.9, 0.7, 0.1, 0.2])  # three validations, then the test of last and best
    tested = []

    def scripted(network, data, device):
        tested.append(network.network.linear.bias.detach().clone())
        return loop.Score(next(accuracies), 1.0)

    monkeypatch.setattr(loop, "measure", scripted)
    result = train(config(npz, validation=0.1), tmp_path / "a.safetensors")
    assert [row.validation_accuracy for row in result.history] == [0.5, 0.9, 0.7]
    best, last = load_checkpoint(result.checkpoint), load_checkpoint(tmp_path / "last" / "a.safetensors")
    assert result.test.accuracy == 0.2
    assert (best.metadata["epoch"], last.metadata["epoch"]) == (2, 3)
    assert torch.equal(best.network.linear.bias, tested[1]) and torch.equal(
        last.network.linear.bias, tested[2]
    )
    assert not torch.equal(tested[1], tested[2])


def test_validation_images_are_another_part_for_every_seed():
    data = load_data("digits", split="train")
    held_out = []
    for seed in (0, 1):
        rest, validation = train_validation(data, 0.1, seed)
        rows = [
            {image.tobytes() for image in part.images[np.arange(len(part))]} for part in (rest, validation)
        ]
        assert (len(rest), len(validation)) == (1041, 116) and not rows[0] & rows[1]
        held_out.append(rows[1])
    assert held_out[0] != held_out[1]
    assert train_validation(data, 0.0, 0) == (data, None)


def test_dropout_changes_training_and_belongs_to_the_seed(npz, tmp_path):
    weights = []
    for name, rate in (("a", 0.3), ("b", 0.3), ("c", 0.0)):
        settings = config(npz, arch="resnet20", epochs=1, batch_size=100, dropout=rate)
        train(settings, tmp_path / f"{name}.safetensors")
        weights.append(load_checkpoint(tmp_path / f"{name}.safetensors").network.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["linear.weight"], weights[2]["linear.weight"])


def test_bfloat16_changes_the_arithmetic_and_keeps_float32_weights(npz, tmp_path):
    weights = []
    for precision in ("float32", "bfloat16"):
        result = train(
            config(npz, recipe=CodedRecipe(), precision=precision), tmp_path / f"{precision}.safetensors"
        )
        weights.append(load_checkpoint(result.checkpoint).network.state_dict())
    difference = (weights[0]["linear.weight"] - weights[1]["linear.weight"]).abs().max()
    assert weights[1]["linear.weight"].dtype == torch.float32 and 1e-5 < difference < 0.5
    # What is stated of the file is what the file gives in float32.
    checkpoint = load_checkpoint(result.checkpoint)
    x, y = load_data(npz).batch(range(200))
    logits = with_normalisation(checkpoint, x, y)(x)
    assert checkpoint.metadata["loss"] == pytest.approx(float(cross_entropy(logits, y)), abs=2e-6)


def test_the_state_of_another_run_is_not_taken_up(npz, tmp_path):
    out = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(config(npz), out, bar=Interruption(at=(1, 0)))
    with pytest.raises(InputError, match="an unfinished run with other options"):
        train(config(npz, learning_rate=0.05), out)
    state_path(out).write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged state"):
        train(config(npz), out)


def test_a_run_that_diverges_is_refused_and_writes_nothing(npz, tmp_path):
    with pytest.raises(InputError, match="epoch 1: the loss is nan; lower the learning rate"):
        train(config(npz, learning_rate=1e6, schedule="paper", epochs=2), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs = 0: expected `int` >= 1"),
        ({"batch_size": 3}, "batch_size = 3"),
        ({"learning_rate": -0.1}, "learning_rate = -0.1: expected `float` >= 0"),
        ({"validation": 1.0}, "validation = 1.0: expected `float` <= 0.9"),
        ({"schedule": "cosine"}, "schedule = 'cosine': .*give one-cycle, paper, milestones"),
        ({"schedule": "milestones"}, "say at which epochs"),
        ({"milestones": (3,)}, "one-cycle has no milestones"),
        ({"precision": "half"}, "give auto, float32, bfloat16"),
        ({"recipe": CodedRecipe(blocks=(3,))}, "blocks 3: this architecture has 3 blocks"),
        ({"arch": "digits-cmm"}, "unknown architecture"),
    ],
)
def test_wrong_settings_are_refused(npz, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(config(npz, **changes), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        train(config(npz), tmp_path / "a.pt")


def test_schedules_fill_in_the_number_of_epochs():
    paper = TrainConfig("resnet20", "cifar10", schedule="paper")
    assert (paper.total_epochs, paper.milestones) == (350, (100, 250))
    assert TrainConfig("resnet20", "cifar10").total_epochs == 30
    assert paper.fingerprint() == dataclasses.replace(paper, device="cpu").fingerprint()
    assert paper.fingerprint() != dataclasses.replace(paper, seed=1).fingerprint()


def test_seeds_make_a_checkpoint_each_and_finished_ones_are_kept(npz, tmp_path):
    settings = config(npz, epochs=1, seed=2)
    out = tmp_path / "a.safetensors"
    series = train_seeds(settings, out, 2)
    assert [run.checkpoint.name for run in series] == ["a-seed2.safetensors", "a-seed3.safetensors"]
    assert [load_checkpoint(run.checkpoint).metadata["seed"] for run in series] == [2, 3]
    written = [run.checkpoint.stat().st_mtime_ns for run in series]
    longer = train_seeds(settings, out, 3)
    assert [run.checkpoint.stat().st_mtime_ns for run in longer[:2]] == written and len(longer) == 3
    for first, again in zip(series, longer):
        assert again.test == pytest.approx(first.test, abs=1e-6)


def test_a_checkpoint_of_other_settings_is_not_overwritten(npz, tmp_path):
    settings = config(npz, epochs=1, seed=2)
    out = tmp_path / "a.safetensors"
    later = dataclasses.replace(settings, seed=settings.seed + 1)
    train_seeds(later, tmp_path / "a-seed3.safetensors", 1)
    other = dataclasses.replace(settings, learning_rate=0.01)
    with pytest.raises(InputError, match=r"a-seed3\.safetensors is there already"):
        train_seeds(other, out, 2)
    assert not (tmp_path / "a-seed2.safetensors").exists()  # refused before the first of the two


def row(epoch, accuracy=None):
    return EpochRow(epoch, 0.1, 1.25 / epoch, accuracy, None if accuracy is None else 0.5, 2.0)


def test_there_is_a_line_a_minute_and_one_on_the_last_epoch(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(loader, "monotonic", lambda: clock[0])
    bar = Progress("erm [a]")
    bar.start(epochs=6, steps=2)
    for epoch in range(1, 7):
        for step in range(2):
            clock[0] += 150.0 if epoch == 4 else 12.5
            bar.step(epoch - 1, step)
        bar.done(epoch, row(epoch, accuracy=0.875 if epoch == 6 else None).figures)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "erm [a]: epoch 3/6, loss 0.417",
        "erm [a]: epoch 4/6, step 1/2",
        "erm [a]: epoch 4/6, loss 0.312",
        "erm [a]: epoch 6/6, loss 0.208, validation 87.5%",
    ]
    assert not shown.out
