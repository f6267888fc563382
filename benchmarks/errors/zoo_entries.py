"""The command line of the benchmarks over the zoo: entries by name, several side by side."""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from zoo.registry import ZOO

Measured = TypeVar("Measured")


def entries_parser(about: str) -> argparse.ArgumentParser:
    """Options that name entries of the zoo. ``about`` is what ``--help`` says."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="entries of the zoo; none for all of them")
    parser.add_argument("--workers", type=int, default=2, help="entries that are evaluated side by side")
    return parser


def measured_entries(
    measure: Callable[[str], Measured],
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    everything: Sequence[str] = tuple(ZOO),
) -> list[Measured]:
    """What ``measure`` finds for the entries that the command line names, or for ``everything``.

    Args:
        measure: a function of a module, called with an entry's name in a process of its own.
        options, parser: of `entries_parser`.
    """
    names = options.names or list(everything)
    if unknown := [name for name in names if name not in ZOO]:
        parser.error(f"no entry of the zoo is named {unknown[0]}; known: {', '.join(ZOO)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # before the workers import torch: they share the cores
    started = time.monotonic()
    found = []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for name, one in zip(names, pool.imap(measure, names, chunksize=1), strict=True):
            found.append(one)
            print(f"{time.monotonic() - started:6.0f} s  {name}", flush=True)
    return found
