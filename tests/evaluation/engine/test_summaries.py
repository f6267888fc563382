"""summary.csv is the same, byte for byte, whether this process computed it or Ray."""

import importlib.util

import pytest

from robustbench_coded.evaluation.session.evaluate import evaluate

pytestmark = pytest.mark.long

# One of them stands for Ray in the short form: its workers import everything anew.
RAY = [{"engine": "ray", "workers": workers} for workers in (2, 1, 4)]


@pytest.fixture(scope="module")
def summary_of(config, tmp_path_factory):
    """summary.csv of a run with some engine."""
    runs = tmp_path_factory.mktemp("runs")

    def evaluated(**engine):
        out = runs / "-".join(map(str, engine.values()))
        evaluate(config(out=out, **engine))
        return (out / "summary.csv").read_bytes()

    return evaluated


@pytest.fixture(scope="module")
def expected(summary_of):
    """What this process computes by itself."""
    summary = summary_of()
    assert summary.count(b"\n") > 10
    return summary


@pytest.fixture(scope="module")
def ray():
    """A Ray of four processors, started once."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("engine", RAY, ids=str)
def test_workers_of_ray(summary_of, expected, ray, soak, engine):
    if engine is not RAY[0] and not soak:
        pytest.skip("only with --soak")
    assert summary_of(**engine) == expected
    assert ray.is_initialized(), "a Ray that was there before is left running"
