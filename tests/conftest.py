"""What all tests share: whether there is time for their long form, and runs without figures."""

import os

import pytest
from hypothesis import HealthCheck, settings

from robustbench_coded.reports import write

# No test asserts a time: on a busy machine an example may take longer than hypothesis allows by default.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="Run the long form of the tests that have one.")


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
