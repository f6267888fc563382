import signal
import threading
import time

import pytest

from robustbench_coded.user_code import TimeLimitExceeded, time_limit


def test_a_block_that_takes_too_long_is_interrupted_and_the_timer_is_gone():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        while True:
            time.sleep(0.01)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_code_that_swallows_everything_once_is_interrupted_again():
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        try:
            time.sleep(10)
        except BaseException:
            time.sleep(10)


def test_a_block_in_time_is_left_alone():
    with time_limit(5):
        pass
    with time_limit(float("inf")):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_other_threads_go_without():
    done = []

    def work():
        with time_limit(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
