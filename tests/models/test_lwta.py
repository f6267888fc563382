"""Stochastic winner-takes-all networks: recognised, never run as ReLU, and right on the published weights."""

from pathlib import Path

import pytest
import torch

from robustbench_coded.defences.sampling import samples
from robustbench_coded.models.architectures.wide_resnet import Competition, LwtaWideResNet
from robustbench_coded.models.detect import recognise
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.models.refusal import Refused
from robustbench_coded.paper.training.fresh import build

SHARED = Path(__file__).parents[3] / "shared" / "checkpoints" / "lwta-wrn34-1.pt"


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_one_of_each_pair_survives_as_often_as_its_softmax_says():
    pair = torch.tensor([0.7, -0.4]).view(1, 2, 1, 1).expand(1, 2, 200, 200)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = Competition()(pair)[0]
    survives = out.abs() > 0.1
    assert (survives.sum(0) == 1).float().mean() > 0.99  # at temperature 0.01 next to all are decided
    expected = torch.tensor([0.7, -0.4]).softmax(0)[0]
    assert abs(survives[0].float().mean() - expected) < 0.01


def test_neighbouring_channels_compete():
    x = torch.tensor([5.0, -5.0, -5.0, 5.0]).view(1, 4, 1, 1)
    out = Competition()(x).flatten()
    torch.testing.assert_close(out, torch.tensor([5.0, 0.0, 0.0, 5.0]))


def test_it_is_recognised_and_samples():
    found = recognise(shapes(LwtaWideResNet(depth=10, width=2)))
    assert found.arch == "lwta-wrn-10-2"
    assert samples(build("lwta-wrn-10-1", 10), torch.rand(2, 3, 8, 8))
    assert not samples(build("wrn-10-1", 10).eval(), torch.rand(2, 3, 8, 8))


def test_another_activation_with_weights_of_its_own_is_refused():
    stored = shapes(build("wrn-10-1", 10))
    stored["block1.layer.0.act.temperature"] = ()
    with pytest.raises(Refused, match=r"wrn-10-1, where block1.layer.0.act.temperature has no place"):
        recognise(stored)


def test_nothing_of_a_built_network_is_left_as_the_memory_was():
    network = build("lwta-wrn-10-1", 10)
    assert {value.item() for name, value in network.named_buffers() if name.endswith("temp")} == {1.0}


def test_recognition_neither_reads_nor_moves_the_callers_random_stream(tmp_path, remembering):
    """What it says of a network that samples is the same every time."""
    network = build("lwta-wrn-10-1", 10)
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.save(remembering(network, x).state_dict(), tmp_path / "a.pt")
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            seen = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, torch.arange(64) % 10)
            assert torch.equal(torch.get_rng_state(), before)
            found.append(seen)
    assert torch.equal(found[0].labelled.correct, found[1].labelled.correct)
    assert found[0].batch_norms == found[1].batch_norms


@pytest.mark.skipif(not SHARED.exists(), reason="the published weights are not here")
def test_the_published_weights_fit_and_use_neither_temperatures_nor_the_spare_block():
    checkpoint = load_checkpoint(SHARED)
    assert checkpoint.arch == "lwta-wrn-34-1"
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = checkpoint.network(x)
        for name, buffer in checkpoint.network.named_buffers():
            if name.endswith(".temp"):
                buffer.fill_(123.0)
        torch.manual_seed(0)
        assert torch.equal(checkpoint.network(x), first)
        torch.manual_seed(1)
        assert not torch.equal(checkpoint.network(x), first)
