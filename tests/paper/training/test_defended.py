"""Training behind a defence, and from a checkpoint."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.config import PgdAt
from robustbench_coded.paper.training.loop import train
from robustbench_coded.paper.training.stages import Defended, TrainingStages
from tests.paper.training.conftest import Interruption, config


def linear():
    """Two inputs, two classes, weights that are known."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        network[1].bias.zero_()
    return TrainingStages(network, (0.0,), (1.0,))


def test_gradients_of_weights_go_through_the_defence(monkeypatch):
    plain = linear()

    class Doubled:  # answers with twice its input, so its weights' gradient is twice that at 2 x
        name, randomised, batch_dependent, base = "doubled", False, False, None

        def logits(self, x, draw):
            return plain(2 * x)

    monkeypatch.setattr("robustbench_coded.defences.plugin.build_defence", lambda *_: Doubled())
    defended = Defended(plain, "noise:sigma=0.1", 1)
    x, y = torch.tensor([[[[0.3, 0.1]]]]), torch.tensor([1])
    cross_entropy(defended(x), y).backward()
    # By hand: d loss / d W = (softmax - one-hot) (2 x)^T.
    error = torch.tensor([0.6, 0.2]).softmax(0) - torch.tensor([0.0, 1.0])
    assert torch.allclose(plain.network[1].weight.grad, torch.outer(error, torch.tensor([0.6, 0.2])))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda logits: logits.detach(), "no gradient reaches the network's weights"),
        (lambda logits: logits * float("nan"), "NaN or infinity"),
        (lambda logits: logits[:, :1], r"it answers \[4, 1\] for 4 images, 2 classes"),
    ],
)
def test_a_defence_that_teaches_nothing_is_refused(monkeypatch, answers, said):
    plain = linear()

    class Odd:
        name, randomised, batch_dependent, base = "odd", False, False, None

        def logits(self, x, draw):
            return answers(plain(x))

    monkeypatch.setattr("robustbench_coded.defences.plugin.build_defence", lambda *_: Odd())
    with pytest.raises(InputError, match=said):
        Defended(plain, "noise:sigma=0.1", 1).require_gradients(2, (1, 1, 2))


def test_it_lies_where_its_network_lies():
    plain = linear().to("meta")
    defended = Defended(plain, "noise:sigma=0.1", 1)
    assert {tensor.device.type for tensor in (*defended.parameters(), *defended.buffers())} == {"meta"}


def test_every_forward_pass_has_a_draw_of_its_own_from_the_generator():
    defended = Defended(linear(), "noise:sigma=0.1", 4)
    x = torch.rand(4, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    defended.generator = torch.Generator().manual_seed(5)
    first, second = defended(x), defended(x)
    assert not torch.allclose(first, second)
    defended.generator = torch.Generator().manual_seed(5)
    assert torch.equal(defended(x), first)


@pytest.mark.parametrize("name", ["k-winners-take-all", "parametric-noise", "random-projection-filters"])
def test_published_defences_train_the_network_that_they_are_given(npz, tmp_path, name):
    start = load_checkpoint("digits-erm").network.state_dict()
    run = config(npz, start="digits-erm", defence=f"published:{name}", epochs=1, learning_rate=0.01)
    with pytest.MonkeyPatch.context() as patch:  # the digits of the file, on the checkpoint's scale
        patch.setattr(
            "robustbench_coded.paper.training.loop.channel_statistics", lambda _: ((0.3056,), (0.3756,))
        )
        result = train(run, tmp_path / "net.safetensors")
    trained = load_checkpoint(result.checkpoint)
    moved = [key for key, value in trained.network.state_dict().items() if not torch.equal(value, start[key])]
    weights = {key for key in start if key.endswith("weight") and start[key].ndim > 1}
    assert weights <= set(moved)
    assert all((trained.network.state_dict()[key] - start[key]).abs().max() < 0.5 for key in weights)
    assert trained.metadata["defence"] == f"published:{name}"
    assert trained.metadata["start"].startswith("digits-erm ")
    assert 0.5 < trained.metadata["defended_accuracy"] <= 1
    assert trained.metadata["accuracy"] == pytest.approx(result.test.accuracy)


def test_a_training_behind_a_random_defence_is_the_same_when_it_is_repeated(npz, tmp_path):
    run = config(npz, defence="noise:sigma=0.2", recipe=PgdAt(eps=0.1, steps=1, step_size=0.1), epochs=1)
    first, again = (train(run, tmp_path / f"{name}.safetensors").checkpoint for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()
    other = train(config(npz, recipe=run.recipe, epochs=1), tmp_path / "plain.safetensors").checkpoint
    assert other.read_bytes() != first.read_bytes()


def test_a_killed_training_goes_on_with_the_draws_it_would_have_had(npz, tmp_path):
    run = config(npz, defence="noise:sigma=0.2")
    whole = train(run, tmp_path / "whole.safetensors").checkpoint
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "killed.safetensors", bar=Interruption(at=(1, 2)))
    assert train(run, tmp_path / "killed.safetensors").checkpoint.read_bytes() == whole.read_bytes()


def test_fingerprints_know_the_start_and_the_defence(npz):
    changes = ({}, {"start": "digits-erm"}, {"start": "digits-mixup"}, {"defence": "noise:sigma=0.1"})
    assert len({config(npz, **change).fingerprint() for change in changes}) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defence": "standard"}, "give a defence to train behind"),
        ({"defence": "rci:N=1.5K"}, "there is the recipe coded"),
        ({"defence": "published:score-purification"}, "it needs images besides the batch"),
        ({"defence": "published:tent"}, "no gradient reaches the network's weights"),
        ({"defence": "published:jpg"}, "is not known"),
        ({"defence": 3}, "defence = 3: expected `str"),
        ({"start": "cifar10-erm-resnet20"}, "it is a resnet20, the training has arch digits-cnn"),
        ({"start": "cifar10-erm-resnet20", "arch": "resnet20"}, "it takes 3-channel images"),
        ({"start": "digits-erm"}, "its normalisation is 0.3056/0.3756, the training images have mean"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(npz, tmp_path, changes, said):
    with pytest.raises(InputError, match=said) as refused:
        train(config(npz, **changes), tmp_path / "net.safetensors")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
