"""What all tests share: whether there is time for their long form."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="Run the long form of the tests that have one.")


@pytest.fixture(scope="session")
def soak(request):
    """Whether there is time for the long form."""
    return request.config.getoption("--soak")
