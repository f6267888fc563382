"""What `benchmarks/speed/speed.py` measures, on a small network: nothing is asserted on times."""

import pytest
import torch

from benchmarks.bench.run import BenchOptions, bench
from benchmarks.bench.timing import peak_memory
from benchmarks.bench.workloads import ANSWERS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def report():
    return bench(BenchOptions(arch="digits-cnn", images=16, steps=2, rounds=1, threads=1))


def test_every_section_compares_what_it_is_there_for(report):
    gradients, coded, inference = report.sections
    names = [timing.name for timing in gradients.timings]
    assert [name for name in names if name.startswith("csrobust")] == [
        "csrobust pgd-2, float32",
        "csrobust pgd-2, bfloat16",
        "csrobust apgd-ce-2, float32",
    ]
    assert {"forward+backward, model as loaded", "forward+backward, float32"} <= set(names)
    against = {timing.name: timing.against for timing in coded.timings}
    assert against["pgd-2, RCI K=16 N=24"] == "pgd-2, standard on 24"
    assert against["pgd-2, RCI K=8 N=12, 2 batches at once"] == "pgd-2, RCI K=16 N=24"
    assert {timing.against for timing in inference.timings} == {None, "standard K=16"}
    for section in report.sections:
        assert all(len(timing.seconds) == 1 and timing.seconds[0] > 0 for timing in section.timings)


def test_every_way_counts_the_images_that_it_sends(report):
    gradients, coded, inference = report.sections
    images = {t.name: t.images for section in (gradients, coded, inference) for t in section.timings}
    assert images["csrobust pgd-2, float32"] == images["forward+backward, float32"] == 2 * 16
    assert images["pgd-2, RCI K=16 N=24"] == images["pgd-2, standard on 24"] == 2 * 24
    assert images["pgd-2, RCI K=8 N=12, 2 batches at once"] == 2 * 2 * 12
    # Table 4 is about answered inputs: more coded inputs must show as cost.
    assert images["RCI K=16 N=24"] == images["standard K=16"] == ANSWERS * 16


def test_peak_memory_is_that_of_the_call():
    size = 64 * 2**20
    used = peak_memory(lambda: torch.ones(size // 4), torch.device("cpu"))
    if used is None:
        pytest.skip("the system does not tell")
    assert 0.9 * size < used < 2 * size
