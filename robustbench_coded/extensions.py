"""What csrobust finds by name and imports nowhere: entry points, of this package and of others.

Group, and what an entry has to be:

csrobust.commands     a function with typer's annotations, or a ``typer.Typer`` with commands of its own
csrobust.runs         a module with ``report`` for folders in which NAME.json lies
csrobust.comparisons  (runs by name) -> the sections that ``csrobust compare --NAME`` adds
csrobust.printed      ``accuracies``: manifest of a run -> the number that a paper printed for a case;
                      ``explained``: what a report says of them
csrobust.sections     run -> the sections that its report has besides its own
csrobust.entries      folder -> a context manager that gives the run in it, or None
csrobust.defences     a mapping: name -> an object with ``description`` and ``build(model)``, and
                      ``brings(config)`` where it has data of its own
csrobust.bounds       ``certify``: (context, subject, perturbation) -> certificates
csrobust.exporters    (run, folder) -> files written

A name that two packages bring is refused. Entry points are read from the metadata of the installation: after
a change of pyproject.toml csrobust has to be installed again, and a command that is missing says so.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_coded.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

CHECKOUT = Path(__file__).parents[1]
AGAIN = "install csrobust again (pip install -e . in a checkout)"


@functools.cache
def found(group: str) -> dict[str, "EntryPoint"]:
    """The entry points of ``csrobust.GROUP`` by name, in alphabetical order.

    Raises:
        InputError: two packages bring one name.
    """
    from importlib.metadata import entry_points  # 60 ms, which most commands do without

    points: dict[str, EntryPoint] = {point.name: point for point in _of_checkout(f"csrobust.{group}")}
    installed = [one for one in entry_points(group=f"csrobust.{group}") if one.name not in points]
    for point in sorted(installed, key=lambda point: point.name):
        if (first := points.setdefault(point.name, point)) != point:
            raise InputError(
                f"{first.value} and {point.value} are both called {point.name} in csrobust.{group}; "
                "uninstall one of their packages"
            )
    return dict(sorted(points.items()))


# Test benches that stand in a checkout and are not in the wheel, by group: a name and where it is.
TEST_BENCHES = {
    "csrobust.defences": ("zoo", "zoo.registry:ZOO"),
    "csrobust.commands": ("bench", "benchmarks.bench.command:bench_command"),
}


def _of_checkout(group: str) -> "list[EntryPoint]":
    from importlib.metadata import EntryPoint

    if group not in TEST_BENCHES:
        return []
    name, place = TEST_BENCHES[group]
    file = f"{place.partition(':')[0].replace('.', '/')}.py"
    return [EntryPoint(name, place, group)] if (CHECKOUT / file).is_file() else []


@functools.cache
def load(group: str, name: str) -> Any:
    """What is plugged in under a name.

    Raises:
        InputError: nothing is; the metadata of the installation are older than its files.
    """
    if name not in found(group):
        raise InputError(f"csrobust.{group} has no {name}; {AGAIN}")
    return found(group)[name].load()


def all_of(group: str) -> dict[str, Any]:
    """Everything that is plugged into a group, by name."""
    return {name: load(group, name) for name in found(group)}
