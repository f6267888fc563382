from types import SimpleNamespace

from robustbench_coded.evaluation.engine.run import LEAST_SECONDS, UnitTimeLimits


def unit_of(images):
    return SimpleNamespace(images=images, case=SimpleNamespace(subject=SUBJECT))


class Subject:
    images = 8


SUBJECT = Subject()


def test_a_unit_may_take_an_hour_or_twenty_times_what_the_probe_says():
    limits = UnitTimeLimits(None, {SUBJECT: 4.0})  # half a second an image
    assert limits.seconds(unit_of(100)) == LEAST_SECONDS
    assert limits.seconds(unit_of(1000)) == 20 * 500
    assert UnitTimeLimits(7.0, {SUBJECT: 4.0}).seconds(unit_of(1000)) == 7.0


def test_a_unit_that_is_said_to_cost_anything_has_a_limit_that_poll_takes():
    assert 1000 * UnitTimeLimits(None, {SUBJECT: 1.0}).seconds(unit_of(1e15)) < 2**31
