"""Timing by a planted clock: what is compared with what, and what is not counted."""

import pytest
import torch

from benchmarks.bench import timing
from benchmarks.bench.timing import TimedContender, TimingSpread, interleaved


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a contender says so."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_contenders_take_turns_and_the_first_round_is_not_counted(clock):
    order, left = [], {"a": [100.0, 1.0, 3.0, 2.0], "b": [50.0, 4.0, 6.0, 8.0]}

    def contender(name, images, against=None):
        def run():
            order.append(name)
            clock[0] += left[name].pop(0)

        return TimedContender(name, images, run, against)

    a, b = interleaved([contender("a", 1), contender("b", 2, "a")], 3, torch.device("cpu"))
    assert "".join(order) in ("abbaabba", "baabbaab")
    assert a.seconds == (1, 3, 2) and b.seconds == (4, 6, 8)
    assert a.cost is None and a.per_image.median == 2
    # Per image and within a round: 2 / 1, 3 / 3 and 4 / 2, not the ratio of two medians (3 / 2).
    assert b.cost == TimingSpread(2, 1.5, 2)


def test_a_single_round_has_no_spread():
    assert TimingSpread.of([3.0]) == TimingSpread(3, 3, 3)
