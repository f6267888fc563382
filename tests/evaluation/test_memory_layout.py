"""Networks that ask for one layout in memory (``view``), as the tutorials of torch write them."""

import importlib.util

import numpy as np
import pytest
import torch

from robustbench_coded import attack, evaluate
from robustbench_coded.cli.main import main
from robustbench_coded.run import load_run

NETWORKS = """
import torch.nn.functional as F
from torch import nn


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv2(self.pool(F.relu(self.conv1(x))))))
        x = x.view(-1, 16 * 5 * 5)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Example(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5, 1), nn.Conv2d(20, 50, 5, 1)
        self.fc1, self.fc2 = nn.Linear(4 * 4 * 50, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, 2)
        x = x.view(-1, 4 * 4 * 50)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


class Columns(nn.Module):
    # As networks that read text: a sequence of the columns of what convolutions answer.
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.Linear(64, 10)

    def forward(self, x):
        columns = F.relu(self.bn(self.conv(x))).permute(0, 3, 1, 2).view(len(x), 8, 64)
        return self.fc(columns).mean(1)
"""
SHAPES = {"Tutorial": (3, 32, 32), "Example": (1, 28, 28), "Columns": (3, 32, 32)}
QUICK = {"attacks": "pgd-3,relaxed-pgd-2", "eps": 0.05, "draws": 1, "batch_size": 16, "threads": 1}
N = 16


@pytest.fixture(params=SHAPES)
def given(request, tmp_path):
    """A network with its file, and images that it labels rightly."""
    (tmp_path / "nets.py").write_text(NETWORKS)
    spec = importlib.util.spec_from_file_location("nets", tmp_path / "nets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(module, request.param)().eval()
        x = torch.rand(N, *SHAPES[request.param]).mul(255).round() / 255
    with torch.no_grad():
        y = network(x).argmax(1)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    pixels = x.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "data.npz", x=pixels, y=y.numpy(), classes=np.array(10))
    return tmp_path, request.param, network, x, y


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", "1"], marks=pytest.mark.long)])
def test_a_file_with_the_definition_beside_it_is_evaluated(given, workers):
    folder, name, *_ = given
    options = ["--attacks", "pgd-3,relaxed-pgd-2", "--eps", "0.05", "--draws", "1", "--threads", "1"]
    own = ["--arch", f"{folder}/nets.py:{name}", "--normalize", "none", "--data", f"npz:{folder}/data.npz"]
    command = ["eval", "--ckpt", f"{folder}/net.pt", *own, *options, "--quiet", *workers]
    assert main([*command, "--out", f"{folder}/run"]) == 0
    accuracy = load_run(folder / "run").summary.set_index("attack").accuracy
    assert accuracy["clean"] == 1 and {"pgd-3", "relaxed-pgd-2"} <= set(accuracy.index)


@pytest.mark.parametrize("order", ["[n, C, H, W]", "[n, H, W, C]"])
def test_images_in_either_order_are_evaluated_and_attacked(given, order):
    folder, _, network, x, y = given
    images = x if order == "[n, C, H, W]" else np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    run = evaluate(network, (images, y), out=folder / "run", **QUICK)
    assert run.summary.set_index("attack").accuracy["clean"] == 1
    found = torch.as_tensor(attack(network, images, y, "pgd-2", 0.05, seed=0))
    found = found if order == "[n, C, H, W]" else found.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, attack(network, x, y, "pgd-2", 0.05, seed=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("given", ["Example"], indirect=True)
def test_grey_images_that_are_stored_channels_last_are_attacked(given):
    _, _, network, x, y = given
    stored = x.to(memory_format=torch.channels_last)
    assert torch.equal(
        attack(network, stored, y, "pgd-2", 0.05, seed=0), attack(network, x, y, "pgd-2", 0.05, seed=0)
    )
