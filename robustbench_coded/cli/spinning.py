"""How long the threads of torch wait for each other in a loop before they give up the core.

GNU's OpenMP, which torch uses on Linux, lets a thread that is early spin for milliseconds. Beside another
busy program the thread that it waits for may not even have a core, and a run takes many times as long.
"""

import os

SPINS = "10000"  # some microseconds: no slower alone on a machine, two to four times faster beside others
_SAID_BY_THE_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_briefly() -> None:
    """For this process and those it starts, unless the environment says otherwise.

    It has no effect once torch is imported.
    """
    if not any(name in os.environ for name in _SAID_BY_THE_USER):
        os.environ["GOMP_SPINCOUNT"] = SPINS
