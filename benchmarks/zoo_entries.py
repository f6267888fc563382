"""The command line of the benchmarks over the zoo: entries by name, several side by side."""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import TypeVar

from robustbench_coded.zoo.registry import ZOO

Measured = TypeVar("Measured")


def measured_entries(measure: Callable[[str], Measured], about: str) -> tuple[list[Measured], bool]:
    """What ``measure`` finds for the entries that the command line names, and whether these are all.

    Args:
        measure: a function of a module, called with an entry's name in a process of its own.
        about: what ``--help`` says.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="entries of the zoo; none for all of them")
    parser.add_argument("--workers", type=int, default=2, help="entries that are evaluated side by side")
    options = parser.parse_args()
    names = options.names or list(ZOO)
    if unknown := [name for name in names if name not in ZOO]:
        parser.error(f"no entry of the zoo is named {unknown[0]}; known: {', '.join(ZOO)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # before the workers import torch: they share the cores
    started = time.monotonic()
    found = []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for name, one in zip(names, pool.imap(measure, names, chunksize=1), strict=True):
            found.append(one)
            print(f"{time.monotonic() - started:6.0f} s  {name}", flush=True)
    return found, not options.names
