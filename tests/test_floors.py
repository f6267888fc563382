"""Who may know whom: a module of the core imports from its own room and from those below it, an extension
from the core and from itself.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up; docs/architecture.md draws it.
ROOMS = (
    "attacks", "errors", "extensions", "installation", "threads", "user_code", "version",
    "schema", "coding", "runs",
    "data", "models", "defences", "statistics", "results", "selftests",
    "reports.text", "reports.run", "reports.compare", "reports.figures", "reports.render",
    "reports.write",
    "evaluation.options", "evaluation.planning", "evaluation.execution", "engine",
    "evaluation.setup", "session", "training", "cli",
)  # fmt: skip
# What the core finds through entry points (pyproject.toml) alone, and the folders of each.
PLUGINS = {
    "studies": ("studies", "ablations", "generation", "paper_figures"),
    "shift": ("shift",), "certification": ("certification",), "zoo": ("zoo",), "bench": ("bench",),
    "published": ("published",), "verification": ("verification",), "evidence": ("evidence",),
    "board": ("board", "view"), "exporters": ("exporters",), "power": ("power",),
}  # fmt: skip
BELOW = {
    "zoo": {"certification", "published"},
    "certification": {"published"},
    "board": {"published"},
    "power": {"verification"},
    "shift": {"studies"},
}  # the other extensions that one imports
FILES = sorted(
    path for package in ("attacks", "robustbench_coded") for path in (ROOT / package).rglob("*.py")
)


def room_of(module: str) -> str | None:
    """The room of a module by its dotted name; None for the package's own front door."""
    parts = module.split(".")
    if parts[0] == "attacks":
        return "attacks"
    names = (".".join(parts[1:3]), ".".join(parts[1:2]))
    return next((name for name in names if name in ROOMS), None)


def plugin_of(module: str) -> str | None:
    """The extension of a module by its dotted name; None for the core."""
    folder = module.partition(".")[2].partition(".")[0]
    return next((name for name, folders in PLUGINS.items() if folder in folders), None)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def imported(path: Path) -> set[str]:
    """The project's modules that a file imports, inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in ("attacks", "robustbench_coded")}


def test_every_file_has_a_room():
    front_door = ROOT / "robustbench_coded" / "__init__.py"
    modules = [dotted(path) for path in FILES if path != front_door and path.name != "__init__.py"]
    assert [m for m in modules if (room_of(m) is None) == (plugin_of(m) is None)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back_up(path):
    home = room_of(dotted(path))
    if home is None:  # an extension; and the front door names all of the core, for whoever asks
        return
    above = {
        module
        for module in imported(path)
        if (room := room_of(module)) and ROOMS.index(room) > ROOMS.index(home)
    }
    assert above == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_no_plug_in_and_a_plug_in_no_other(path):
    home = plugin_of(dotted(path))
    others = {plugin_of(module) for module in imported(path)} - {None, home} - BELOW.get(home, set())
    assert others == set()


def test_attacks_and_schema_stand_on_their_own():
    for path in FILES:
        rooms = {room_of(module) for module in imported(path)} - {None}
        home = room_of(dotted(path))
        if home in ("attacks", "schema", "coding"):
            assert rooms <= {home}, path


def test_every_package_says_what_belongs_there():
    for path in FILES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
