"""Who may import whom: three rings, and in the core and between extras a fixed order of packages; no circles
between files, and no code that nothing uses.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from vulture import Vulture

ROOT = Path(__file__).parents[1]
# From the ground up; docs/architecture.md draws it.
CORE = (
    "attacks", "errors", "installation", "extensions", "threads", "user_code", "version",
    "code_identity", "schema", "options", "coding", "runs", "data", "models", "defences", "judge",
    "reports.text", "reports.run", "reports.compare", "reports.figures", "reports.render",
    "reports.write", "run",
    "evaluation.guard", "evaluation.selftests", "evaluation.options", "evaluation.planning",
    "evaluation.protocol", "evaluation.execution", "evaluation.engine", "evaluation.setup",
    "evaluation.attack", "evaluation.session", "assertion", "api", "cli", "__main__",
)  # fmt: skip
# What the core finds through entry points alone; each imports the core and those before it.
EXTRAS = (
    "published", "libraries", "piped", "ray_actors", "board", "verification", "exporters",
    "leaderboards",
)  # fmt: skip
PAPER = ("studies", "training", "ablations", "generation", "figures", "shift", "commands")
FILES = sorted(
    path for package in ("attacks", "robustbench_coded") for path in (ROOT / package).rglob("*.py")
)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def ring_of(module: str) -> str:
    """``core``, ``extras`` or ``paper``."""
    part = [*module.split("."), ""][1]
    return part if part in ("extras", "paper") else "core"


def place_of(module: str) -> int | None:
    """The place of a module in the order of its ring; None for the package itself."""
    parts = module.split(".")
    if parts[0] == "attacks":
        return 0
    if (ring := ring_of(module)) != "core":
        order = EXTRAS if ring == "extras" else PAPER
        return order.index(parts[2]) if len(parts) > 2 else None
    names = (".".join(parts[1:3]), ".".join(parts[1:2]))
    return next((CORE.index(name) for name in names if name in CORE), None)


def imported_by_call(node: ast.AST) -> set[str]:
    """What ``import_module("robustbench_coded.reports")`` imports; nothing where its name is computed."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")):
        return set()
    return {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports, inside functions, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        else:
            names.update(imported_by_call(node))
    return {name for name in names if name.split(".")[0] in ("attacks", "robustbench_coded", "zoo")}


def test_every_file_has_a_place():
    modules = [dotted(path) for path in FILES if path.name != "__init__.py"]
    assert [module for module in modules if place_of(module) is None] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_up_or_out(path):
    home, ring, place = dotted(path), ring_of(dotted(path)), place_of(dotted(path))
    if place is None:  # the front door, and rooms that hold nothing but others
        return
    for module in imported(path):
        assert module.split(".")[0] != "zoo", f"{home} imports {module}"
        if (other := place_of(module)) is None:
            continue
        if ring_of(module) != ring:
            assert ring_of(module) == "core", f"{home} imports {module}"
        else:
            assert other <= place, f"{home} imports {module}"


def test_attacks_schema_and_coding_stand_on_their_own():
    for path in FILES:
        home = dotted(path).split(".")
        name = home[0] if home[0] == "attacks" else ".".join(home[:2])
        if name in ("attacks", "robustbench_coded.schema", "robustbench_coded.coding"):
            assert {m for m in imported(path) if not m.startswith(name)} <= {"robustbench_coded"}, path


def test_every_package_says_what_belongs_there():
    for path in FILES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path


def imported_files(path: Path) -> set[str]:
    """The project's modules that this file imports, inside functions, too, but not for annotations alone."""
    tree, known = ast.parse(path.read_text()), {dotted(file) for file in FILES}
    annotations = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for part in ast.walk(statement)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {part if part in known else node.module for part in parts.values()}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            names |= imported_by_call(node)
    return (names & known) - {dotted(path)}


def circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Modules that reach themselves."""
    for start in graph:
        reached, waiting = set(), set(graph[start])
        while waiting:
            reached |= waiting
            waiting = {other for module in waiting for other in graph.get(module, ())} - reached
        if start in reached:
            yield start


def test_an_import_in_a_string_is_one(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text('def draw():\n    return import_module("robustbench_coded.reports.write").plot\n')
    assert imported(planted) == {"robustbench_coded.reports.write"}


def test_no_files_import_each_other():
    assert [*circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})] == ["b", "c"]
    assert [*circles({dotted(path): imported_files(path) for path in FILES})] == []


# What torch, pickle, autoattack and the formats of others call or read.
CALLED_ELSEWHERE = {
    "__getattr__", "__dir__", "persistent_id", "reducer_override", "signum", "needs_input_grad",
    "mark_dirty", "mark_non_differentiable",
    "set_materialize_grads", "save_for_forward", "n_iter_orig", "n_iter_min", "size_decr", "contact",
    "number_forward_passes", "subnormals",
    "gpu",  # a fact of the machine, which reports list
}  # fmt: skip


@pytest.mark.long
def test_no_code_is_dead():
    """What the tests alone use counts as used; vulture sees no name in a string, so those are looked for."""
    search = Vulture(ignore_decorators=["@Algorithm*"])  # found by their names
    search.scavenge(
        [ROOT / name for name in ("attacks", "robustbench_coded", "zoo", "benchmarks", "docs", "tests")]
    )
    texts = [path.read_text() for path in FILES] + [(ROOT / "pyproject.toml").read_text()]
    named = set(re.findall(r"""(?<=[":])[A-Za-z_]\w*(?=["\s])|(?<=\.)\w+(?=")""", "\n".join(texts)))
    published = ROOT / "robustbench_coded" / "extras" / "published"  # found by the names of records
    dead = [
        f"{item.filename.relative_to(ROOT)}: {item.typ} {item.name}"
        for item in search.get_unused_code(min_confidence=60)
        if item.filename.is_relative_to(ROOT / "attacks")
        or item.filename.is_relative_to(ROOT / "robustbench_coded")
        if item.name not in CALLED_ELSEWHERE | named and not item.filename.is_relative_to(published)
    ]
    assert dead == []
