"""``from:SUBJECT/ATTACK``: what it says, and that nobody can ask for it."""

import pytest

from attacks.attack import Submitted
from attacks.naming import read_attack
from attacks.presets import requested

SHRUNK, BITS = ("shrunk", "0.5"), ("bits", "8")
LEVELS, SLOTS = ("levels", "16"), ("slots", "0.75")


@pytest.mark.parametrize("subject", ["standard", "rci:N=190", "rci[average=4]:N=48@mixup", "my defence"])
@pytest.mark.parametrize("attack", ["pgd-100@1/255+momentum=1", "torchattacks:PGD+steps=10", "ensemble"])
@pytest.mark.parametrize("transforms", [(), (SHRUNK,), (BITS,), (SLOTS, LEVELS), (SHRUNK, BITS)])
def test_a_name_is_read_as_it_was_made(subject, attack, transforms):
    made_by = None if attack == "ensemble" else read_attack(attack)
    submitted = Submitted(subject, made_by, transforms)
    name = read_attack(str(submitted))
    assert name == submitted and str(submitted).startswith(f"from:{subject}/{attack}")
    assert name.knows == "submitted" and name.options == transforms
    assert not name.uses_base and not name.differentiates and name.steps is None


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
