"""Extensions by name: entry points of this package and of others.

Group, and what an entry has to be:

csrobust.commands     a function with annotated options (``cli/parser.py``), or a ``Group`` of them
csrobust.data         (text, data_dir, split) -> the data set that ``--data NAME:PLACE`` names
csrobust.comparisons  (runs by name) -> the sections that ``csrobust compare --NAME`` adds
csrobust.audits       ``reports``: (run) -> its reports, each with ``holds`` and a line on where it differs
csrobust.defences     a mapping: name -> an object with ``description`` and ``build(model)``, and
                      ``brings(config)`` where it has data of its own
csrobust.exporters    (run, folder) -> files written
csrobust.engines      (context, workers) -> a pool of workers, for ``--engine NAME``
csrobust.processes    ``cmd``: (command, model) -> a defence that another process answers for
csrobust.libraries    (name, weights, checkpoint, metadata) -> the network ``models.loading.Assembled`` for
                      ``--arch LIBRARY:NAME``

A name that two packages bring is refused. In a checkout those of csrobust are read from pyproject.toml, which
also plugs in the test benches that are not in the wheel.
"""

import functools
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_coded.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

CHECKOUT = Path(__file__).parents[1]
REINSTALL = "install csrobust again (pip install -e . in a checkout)"


@functools.cache
def points_of(group: str) -> dict[str, "EntryPoint"]:
    """The entry points of ``csrobust.GROUP`` by name, in alphabetical order.

    Raises:
        InputError: two packages bring one name.
    """
    from importlib.metadata import entry_points  # 60 ms, which most commands do without

    own = _of_checkout().get(group, [])
    others = [point for point in entry_points(group=f"csrobust.{group}") if not (own and _is_ours(point))]
    points: dict[str, EntryPoint] = {}
    for point in sorted([*own, *others], key=lambda point: point.name):
        if (first := points.setdefault(point.name, point)) != point:
            raise InputError(
                f"{first.value} and {point.value} are both called {point.name} in csrobust.{group}; "
                "uninstall one of their packages"
            )
    return points


def _is_ours(point: "EntryPoint") -> bool:
    return point.dist is not None and point.dist.name == "csrobust"


@functools.cache
def _of_checkout() -> dict[str, "list[EntryPoint]"]:
    """What pyproject.toml plugs in, by group, with the test benches that are not in the wheel."""
    from importlib.metadata import EntryPoint

    file = CHECKOUT / "pyproject.toml"
    if not file.is_file() or not (CHECKOUT / "zoo").is_dir():
        return {}
    text = tomllib.loads(file.read_text("utf-8"))
    tables = text["project"]["entry-points"], text["tool"]["csrobust"]["test-benches"]
    groups = dict.fromkeys(group.removeprefix("csrobust.") for table in tables for group in table)
    return {
        group: [
            EntryPoint(name, value, f"csrobust.{group}")
            for table in tables
            for name, value in table.get(f"csrobust.{group}", {}).items()
        ]
        for group in groups
    }


@functools.cache
def load(group: str, name: str) -> Any:
    """The extension of a group under a name.

    Raises:
        InputError: nothing is; the metadata of the installation are older than its files.
    """
    if name not in points_of(group):
        raise InputError(f"csrobust.{group} has no {name}; {REINSTALL}")
    return points_of(group)[name].load()


def all_of(group: str) -> dict[str, Any]:
    """Everything that is plugged into a group, by name."""
    return {name: load(group, name) for name in points_of(group)}
