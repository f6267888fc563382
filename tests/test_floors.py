"""Who may know whom: a module imports from its own room and from those below it, never from above."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up; docs/architecture.md draws it.
ROOMS = (
    "attacks", "errors", "installation", "threads", "user_code", "version",
    "schema", "coding", "runs",
    "data", "models", "defences", "zoo", "certification", "statistics", "results", "selftests",
    "reports.text", "reports.paper", "reports.run", "reports.compare", "reports.figures", "reports.render",
    "reports.write",
    "evaluation.options", "evaluation.planning", "evaluation.execution", "engine", "evidence",
    "evaluation.setup", "session", "verification", "shift",
    "training", "ablations", "generation", "tabular", "paper_figures", "bench", "board", "view",
    "exporters", "cli",
)  # fmt: skip
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


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports, inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in ("attacks", "robustbench_coded")}


def test_every_file_has_a_room():
    front_door = ROOT / "robustbench_coded" / "__init__.py"
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in FILES if path != front_door]
    homeless = [".".join(p) for p in parts if room_of(".".join(p)) is None and p[-1] != "__init__"]
    assert homeless == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back_up(path):
    home = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if home is None:  # the front door names everything, for whoever asks
        return
    above = {
        module
        for module in imported(path)
        if (room := room_of(module)) and ROOMS.index(room) > ROOMS.index(home)
    }
    assert above == set()


def test_attacks_and_schema_stand_on_their_own():
    for path in FILES:
        rooms = {room_of(module) for module in imported(path)} - {None}
        home = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if home in ("attacks", "schema", "coding"):
            assert rooms <= {home}, path


def test_every_package_says_what_belongs_there():
    for path in FILES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
