"""What `benchmarks/speed/speed.py` measures, on a small network: nothing is asserted on times."""

import pytest

from benchmarks.bench.run import BenchOptions, bench
from benchmarks.bench.workloads import ANSWERS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def report():
    return bench(BenchOptions(arch="digits-cnn", images=16, steps=2, rounds=1, threads=1))


def test_every_way_counts_the_images_that_it_sends(report):
    gradients, coded, inference = report.sections
    images = {t.name: t.images for section in (gradients, coded, inference) for t in section.timings}
    assert images["csrobust pgd-2, float32"] == images["forward+backward, float32"] == 2 * 16
    assert images["pgd-2, RCI K=16 N=24"] == images["pgd-2, standard on 24"] == 2 * 24
    assert images["pgd-2, RCI K=8 N=12, 2 batches at once"] == 2 * 2 * 12
    # Table 4 is about answered inputs: more coded inputs must show as cost.
    assert images["RCI K=16 N=24"] == images["standard K=16"] == ANSWERS * 16
