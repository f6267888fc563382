"""What all tests share: whether there is time for their long form, and runs without figures."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from robustbench_coded.reports import write


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="Run the long form of the tests that have one.")


def pytest_configure(config):
    """The long form looks at new examples each time; otherwise a run repeats the same ones. No test asserts a
    time: on a busy machine an example may take longer than hypothesis allows by default.
    """
    repeated, untimed = not config.getoption("--soak"), [HealthCheck.too_slow]
    settings.register_profile("chosen", deadline=None, suppress_health_check=untimed, derandomize=repeated)
    settings.load_profile("chosen")


@pytest.fixture(scope="session")
def soak(request):
    """Whether there is time for the long form."""
    return request.config.getoption("--soak")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk(soak):
    """Files are not forced to the disk, which takes a third of a small run. The long form waits for it.

    tests/runs/test_atomic.py asserts that they are forced.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not soak:
            patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_figures(request):
    """Runs draw no figures, which take most of a small one, except where DRAWS_FIGURES is set."""
    if getattr(request.module, "DRAWS_FIGURES", False):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda *given: [])
        yield


@pytest.fixture(scope="session")
def robust_perceptron(tmp_path_factory):
    """A file of a perceptron of digits on pixels in [0, 1], trained by FGSM at 0.15 (arXiv 2001.03994).

    ``own.py:build`` beside it is the network. Behind other normalisations it answers nearly as many images
    rightly, and is robust to another degree.
    """
    import torch
    from torch import nn

    from robustbench_coded.data.named_sets import load_digits

    eps, data = 0.15, load_digits("train")
    x, y = data.batch(range(len(data)))
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        for rows in torch.randperm(len(x), generator=generator).split(128)[:9]:
            start = x[rows] + eps * (2 * torch.rand(x[rows].shape, generator=generator) - 1)
            start.requires_grad_()
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(start), y[rows]), start)
            moved = (x[rows] + eps * gradient.sign()).clamp(0, 1)
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(moved), y[rows]).backward()
            optimiser.step()
    path = tmp_path_factory.mktemp("networks") / "robust.pt"
    torch.save(network.state_dict(), path)
    path.with_name("own.py").write_text(
        "from torch import nn\n"
        "def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))\n"
    )
    return path


@pytest.fixture(autouse=True, scope="session")
def temporary_folders(tmp_path_factory):
    """Runs that no test gives a folder are removed with the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield
