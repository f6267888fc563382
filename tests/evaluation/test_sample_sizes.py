"""On how many examples cases run, what belongs to a sample size, and which cases a claim is about."""

from dataclasses import replace

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import batches_at, partition, victims_at
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import comparisons_judged, looks, sample_sizes
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.schema.case import Perturbation, StatedClaim, Subject, ThreatModel
from robustbench_coded.schema.manifest import Invocation, Resolved

RCI = ProbedSubject(Subject("net", "rci", 128, 190), "rci:N=190", 128, True, True, True, 190)
SIZES = sample_sizes(10_000, 128)


def test_sample_sizes_double_from_the_first_look_until_all_examples_are_in():
    assert sample_sizes(640, 128) == (256, 640)
    assert SIZES == (256, 512, 1024, 2048, 4096, 10_000)
    assert sample_sizes(100, 128) == (100,) and sample_sizes(200, 8) == (200,)
    assert sample_sizes(4000, 1000) == (1000, 2000, 4000)
    assert sample_sizes(640, 128, 128) == (128, 256, 640)


@pytest.mark.parametrize("sizes", [SIZES, sample_sizes(640, 128), (100,)])
def test_all_looks_together_have_the_whole_error_and_the_first_half_of_it(sizes):
    shares = [1 / looks(sizes, size) for size in sizes]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == (0.5 if len(shares) > 1 else 1)


def test_batches_are_cut_at_the_same_places_whatever_a_case_runs_to():
    batches = partition(10_000, 128)
    whole = batches_at(batches, SIZES, 10_000)
    assert [batch for part in whole for batch in part] == batches
    assert [len(part) for part in whole] == [1, 1, 2, 4, 8, 16, 47]
    for place, size in enumerate(SIZES, 2):
        assert batches_at(batches, SIZES, size) == whole[:place]


def test_few_victims_are_attacked_first_and_twice_as_many_at_each_later_size():
    assert [victims_at(SIZES, size, 100) for size in SIZES] == [4, 16, 32, 64, 100, 100]
    assert [victims_at(SIZES, size, 3) for size in (256, 10_000)] == [3, 3]
    assert victims_at((10_000,), 10_000, 64) == 64 and victims_at((50,), 50, 64) == 50


@pytest.mark.parametrize("threat", ["batch/unknown", "batch/known", "victim/unknown"])
@pytest.mark.parametrize("sizes", [SIZES, (10_000,)])
def test_a_case_costs_what_its_units_cost_and_more_examples_only_add_units(threat, sizes):
    maker = UnitMaker(EvalConfig(), 4096, {"checkpoints": {"net": "0"}}, sizes, sizes[-1])
    case = planned_case(RCI, ThreatModel.parse(threat), "pgd-10", Perturbation("linf", 0.1, "pixel"), 0.02)
    before: list = []
    for size in sizes[1:] or (10_000,):
        units = replace(maker, size=size).units(case)
        assert replace(maker, size=size).images(case) == sum(unit.images for unit in units)
        assert [unit.id for unit in units[: len(before)]] == before
        before = [unit.id for unit in units]


@pytest.mark.parametrize(
    ("inputs", "claim", "about"),
    [
        (("batch",), {}, ("batch/unknown", 0.3)),
        (("victim", "batch"), {}, ("victim/unknown", 0.3)),
        (("batch",), {"threat": "batch/known"}, ("batch/known", 0.3)),
        (("batch",), {"eps": 0.1}, ("batch/unknown", 0.1)),
    ],
)
def test_what_is_run_for_a_claim_is_what_the_report_weighs_it_by(inputs, claim, about):
    radii = (0.1, 0.3)
    config = EvalConfig(inputs=inputs, claim=StatedClaim(0.7, **claim), eps=radii)
    assert config.claim.setting(inputs, radii) == about
    weighed = Invocation(options=config.as_data(), resolved=Resolved(eps=radii)).claim
    assert (str(weighed.threat), weighed.perturbation.eps) == about
    rows = [
        planned_case(RCI, ThreatModel.parse(threat), "pgd-10", Perturbation("linf", eps, "pixel"))
        for threat in ("batch/unknown", "batch/known", "victim/unknown")
        for eps in radii
    ]
    judged = comparisons_judged(rows, about).values()
    settings = [(str(key.threat), key.perturbation.eps) for keys in judged for key in keys]
    # Where the draw is known, a claim alone is judged.
    assert about in settings and {s for s in settings if s[0] == "batch/known"} <= {about}
