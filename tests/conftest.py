"""What all tests share: whether there is time for their long form, and runs without figures."""

import pytest

from robustbench_coded.reports import write


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="Run the long form of the tests that have one.")


@pytest.fixture(scope="session")
def soak(request):
    """Whether there is time for the long form."""
    return request.config.getoption("--soak")


@pytest.fixture(scope="module", autouse=True)
def no_figures(request):
    """Runs draw no figures, which take most of a small one, except where DRAWS_FIGURES is set."""
    if getattr(request.module, "DRAWS_FIGURES", False):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda run: [])
        yield
