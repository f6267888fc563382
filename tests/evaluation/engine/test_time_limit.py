"""The time limit of user code. Nothing here waits: the tests ring the alarm clock themselves."""

import math
import signal
import threading

import pytest

from robustbench_coded.user_code import TimeLimitExceeded, time_limit

NONE = (0.0, 0.0)  # no alarm is set


def ring():
    signal.raise_signal(signal.SIGALRM)


def alarm():
    """Seconds until the alarm rings, and from one time to the next."""
    return signal.getitimer(signal.ITIMER_REAL)


def test_a_block_that_takes_too_long_is_interrupted_and_the_timer_is_gone():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeLimitExceeded), time_limit(1000):
        left, again = alarm()
        assert 0 < left <= 1000 and again > 0
        ring()
        pytest.fail("the block went on")
    assert signal.getsignal(signal.SIGALRM) is before and alarm() == NONE


def test_code_that_swallows_everything_once_is_interrupted_again():
    with pytest.raises(TimeLimitExceeded), time_limit(1000):
        try:
            ring()
        except BaseException:
            ring()


def test_a_block_without_a_limit_is_left_alone():
    with time_limit(math.inf):
        assert alarm() == NONE


def test_other_threads_go_without():
    alarms = []

    def work():
        with time_limit(1000):
            alarms.append(alarm())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert alarms == [NONE]
