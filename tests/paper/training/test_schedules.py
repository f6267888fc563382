import pytest

from robustbench_coded.paper.training.config import PAPER_MILESTONES, milestones, one_cycle


def test_one_cycle_rises_for_three_tenths_and_falls_to_nothing():
    rates = [one_cycle(i / 1000, 0.4) for i in range(1001)]
    assert (
        rates[0] == 0 and rates[1000] == pytest.approx(0) and max(rates) == rates[300] == pytest.approx(0.4)
    )
    assert rates[:301] == sorted(rates[:301]) and rates[300:] == sorted(rates[300:], reverse=True)
    assert rates[150] == pytest.approx(0.2) and rates[650] == pytest.approx(0.2)


def test_paper_schedule_divides_by_ten_at_100_and_250():
    rates = [milestones(epoch, PAPER_MILESTONES, 0.1) for epoch in range(350)]
    assert rates == pytest.approx([0.1] * 100 + [0.01] * 150 + [0.001] * 100)
