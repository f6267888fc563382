"""An algorithm is named in its own file, attacks in the presets and in examples of names; all else asks."""

import re
from contextlib import suppress
from pathlib import Path

from attacks.algorithm import ALGORITHMS
from attacks.attack import AUTOATTACK, Attack
from attacks.naming import read_attack

ROOT = Path(__file__).parents[2]
NAMING = ("attacks/algorithm.py", "attacks/naming.py", "attacks/presets.py")
# Words and names of other packages that mean something else there.
ANOTHER_MEANING = {
    # pyautoattack's own
    "attacks/adapters/autoattack.py": {*AUTOATTACK},
    "attacks/attack.py": {*AUTOATTACK},
    "robustbench_coded/extras/board/entry.py": {"random"},
    "robustbench_coded/evaluation/execution/attack_group.py": {"random"},
    "robustbench_coded/models/architectures/layers.py": {"square"},
    "robustbench_coded/models/registry.py": {"square"},
    "robustbench_coded/evaluation/selftests/gradients.py": {"random"},
    "robustbench_coded/judge/anytime.py": {"random"},
}


def names_of_attacks(text: str) -> bool:
    """Whether a text is the name of an algorithm, or of an attack of ours, whole or as a form to fill."""
    filled = re.sub(r"\{[a-z]*\}", "20", text)
    for attack in (filled, f"{filled}20"):
        with suppress(ValueError):
            return isinstance(read_attack(attack), Attack)
    return text in ALGORITHMS


def named(path: str, source: str) -> list[str]:
    """Where a file names algorithms that are not its own, alone or in a list with commas; not in prose."""
    own = {name for name, each in ALGORITHMS.items() if path == f"{each.module.replace('.', '/')}.py"}
    elsewhere = own | ANOTHER_MEANING.get(path, set())
    code = re.sub(r'"{3}.*?"{3}', "", source, flags=re.DOTALL)
    texts = [text for quoted in re.findall(r'"([^"\s]+)"', code) for text in quoted.split(",")]
    return [f"{path}: {text}" for text in texts if text not in elsewhere and names_of_attacks(text)]


def test_no_other_file_of_the_product_names_an_algorithm():
    files = [path for top in ("attacks", "robustbench_coded") for path in sorted((ROOT / top).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    lines = [line for path, source in sources.items() if path not in NAMING for line in named(path, source)]
    assert lines == []


def test_names_are_seen_in_code_and_not_in_prose():
    seen = '"""As "pgd-20" does."""\nif x == "pgd":\n    A = "paper,eot10-pgd-20"\n    B = f"pgd-{steps}"\n'
    assert len(named("some.py", seen)) == 3
    assert not named("some.py", 'error("use pgd-20")\nRECIPE = "pgd-at"\n')
