"""``from:SUBJECT/ATTACK``: what it says, and that nobody can ask for it."""

import pytest

from attacks.attack import Submitted
from attacks.naming import read_attack
from attacks.presets import requested


def test_it_asks_nothing_of_the_defence_itself():
    name = read_attack("from:rci:N=190/pgd-100@1/255+momentum=1+shrunk=0.5+bits=8")
    assert name == Submitted(
        "rci:N=190", read_attack("pgd-100@1/255+momentum=1"), (("shrunk", "0.5"), ("bits", "8"))
    )
    assert not name.uses_base and not name.differentiates and name.steps is None
    assert read_attack("from:standard/ensemble").attack is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("from:standard", "expected from:SUBJECT/ATTACK"),
        ("from:/pgd-10", "expected from:SUBJECT/ATTACK"),
        ("from:standard/nonsense-3", "expected an attack's name"),
        ("from:standard/pgd-10+bits=7", "expected shrunk=0.5"),
        ("from:standard/pgd-10+shrunk=1.5", "expected shrunk=0.5"),
        ("from:standard/pgd-10+slots=5", "slots=0.5, levels=16 or bits=8"),
        ("from:standard/pgd-10+levels=0", "levels=16 or bits=8"),
    ],
)
def test_what_is_none_is_refused_in_one_line(text, why):
    with pytest.raises(ValueError, match=why):
        read_attack(text)


def test_it_cannot_be_asked_for():
    with pytest.raises(ValueError, match="submitted by the evaluation itself"):
        requested(["pgd-10", "from:standard/pgd-10"])
