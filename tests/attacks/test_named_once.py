"""An algorithm is named in its own file, attacks in the presets and in examples of names; all else asks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.algorithm import ALGORITHMS
from attacks.naming import read_attack

ROOT = Path(__file__).parents[2]
NAMING = ("attacks/algorithm.py", "attacks/naming.py", "attacks/presets.py")
# Words and names of other packages that mean something else there.
ANOTHER_MEANING = {
    # pyautoattack's own
    "attacks/adapters/autoattack.py": {"apgd-ce", "apgd-dlr", "apgd-t", "fab", "square"},
    "attacks/attack.py": {"apgd-ce", "apgd-dlr", "apgd-t", "fab", "square"},
    "robustbench_coded/extras/board/entry.py": {"random"},
    "robustbench_coded/evaluation/execution/attack_group.py": {"random"},
    "robustbench_coded/models/architectures/layers.py": {"square"},
    "robustbench_coded/models/registry.py": {"square"},
    "robustbench_coded/evaluation/selftests/gradients.py": {"random"},
    "robustbench_coded/judge/anytime.py": {"random"},
}


def names_of_attacks(text: str) -> bool:
    """Whether a text is the name of an algorithm, or of an attack of ours, whole or as a form to fill."""
    if text in ALGORITHMS:
        return True
    filled = re.sub(r"\{[a-z]*\}", "20", text)
    for attack in (filled, f"{filled}20"):
        try:
            if read_attack(attack).algorithm in ALGORITHMS:
                return True
        except ValueError:
            continue
    return False


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string, docstrings aside; a list of names divided by commas gives each."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            for text in [node.value] if " " in node.value else node.value.split(","):
                yield node.lineno, text


def named(path: str, source: str) -> list[str]:
    """Where a file names algorithms that are not its own."""
    own = {name for name, entry in ALGORITHMS.items() if path == f"{entry.module.replace('.', '/')}.py"}
    elsewhere = own | ANOTHER_MEANING.get(path, set())
    return [
        f"{path}:{line}: {text}"
        for line, text in texts(source)
        if text not in elsewhere and names_of_attacks(text)
    ]


def test_no_other_file_of_the_product_names_an_algorithm():
    files = [path for top in ("attacks", "robustbench_coded") for path in sorted((ROOT / top).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    lines = [line for path, source in sources.items() if path not in NAMING for line in named(path, source)]
    assert lines == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""As pgd-20 does."""\nif name.algorithm == "pgd":\n    pass', 1),
        ('ATTACKS = "paper,eot10-pgd-20"', 1),
        ('attack = f"pgd-{steps}"', 1),
        ('raise ValueError("use pgd-20")', 0),  # prose
        ('RECIPE = "pgd-at"', 0),
    ],
)
def test_names_are_seen_in_code_and_not_in_prose(source, count):
    assert len(named("robustbench_coded/some.py", source)) == count
