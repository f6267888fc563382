"""Names of attacks and presets."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from attacks import presets
from attacks.algorithm import ALGORITHMS, SEARCH_DRAWS
from attacks.attack import (
    AUTOATTACK,
    GRAMMAR,
    LOSSES,
    TORCHATTACKS_LINF,
    Attack,
    Package,
    Submitted,
    read_attack,
    read_changed,
)
from attacks.presets import PRESETS, requested


@pytest.mark.parametrize(
    ("text", "attack", "draws"),
    [
        ("fgsm", Attack("fgsm"), 1),
        ("eot10-pgd-20@1/255", Attack("pgd", 20, eot=10, step_size=1 / 255), 10),
        ("aware-pgd-10", Attack("pgd", 10, "aware"), 1),
        ("square-1000", Attack("square", 1000), SEARCH_DRAWS),
        ("eot1-square-1000", Attack("square", 1000, eot=1), 1),
        ("relaxed-eot4-apgd-ce-50", Attack("apgd-ce", 50, eot=4, relaxed=True), 4),
        (
            "aware-fab-5+init=transfer-fgsm",
            Attack("fab", 5, "aware", init=Attack("fgsm", knows="transfer")),
            1,
        ),
        ("torchattacks:PGD+alpha=0.01", Package("torchattacks", "PGD", (("alpha", "0.01"),)), 1),
        ("from:rci:N=4/fgsm+bits=8", Submitted("rci:N=4", Attack("fgsm"), (("bits", "8"),)), 1),
        ("from:standard/ensemble", Submitted("standard"), 1),
    ],
)
def test_names_mean_what_they_say(text, attack, draws):
    assert read_attack(text) == attack and attack.draws == draws
    assert attack.uses_base == ("transfer" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg-10", "expected an attack's name, got 'pdg-10'; did you mean pgd-10"),
        ("pgd", "expected a number of steps after pgd, got 'pgd'; did you mean pgd-1"),
        ("joint-5", "expected 9 steps or more for joint, got 'joint-5'"),
        ("fgsm-3", "expected no number of steps after fgsm"),
        ("pgd-0", "expected an attack's name, got 'pgd-0'"),
        ("pgd-10@0", "expected a step size above 0"),
        ("pgd-10@nan", "expected a step size above 0"),
        ("apgd-ce-100@1/255", "expected no step size, which apgd-ce sets by itself"),
        ("bpda-square-100", "expected an attack with gradients after bpda-"),
        ("torchattacks:PDG", "expected an attack of torchattacks, got 'PDG'; did you mean PGD"),
        ("autoattack:standart", "expected an attack of autoattack, got 'standart'; did you mean standard"),
        ("pgd-10+targets=2", "expected init or start or loss or momentum or restarts or target as an option"),
        ("pgd-10+target=-1", "expected the number of a class, from 0, for target, got 'pgd-10+target=-1'"),
        ("pgd-10+start=0", "expected clean as start, got 'pgd-10+start=0'"),
        ("pgd-10+start=clean+restarts=2", "expected start=clean, which is one start, or init or restarts"),
        ("pgd-10+loss=hinge", "expected a loss out of ce, margin, dlr, got 'pgd-10+loss=hinge'"),
        ("random-10+apart=2", "expected a number from 0 to 1 for apart, got 'random-10+apart=2'"),
        ("pgd-10+momentum=2", "expected a number from 0 to 1 for momentum, got 'pgd-10+momentum=2'"),
        ("apgd-ce-10+restarts=x", "expected a whole number below 10,000 for restarts"),
        ("pgd-1000001", "expected at most 1,000,000 steps or draws, got 'pgd-1000001'"),
        (f"eot{'9' * 5000}-pgd-10", "expected at most 1,000,000 steps or draws"),
        ("apgd-ce-10+restarts=2+restarts=3", "expected each option once"),
        ("eotauto-pgd-20", "expected an attack's name, got 'eotauto-pgd-20'; did you mean eot10-pgd-20"),
        ("aware-pgd-10+init=autoattack:rand", "expected an attack of this package to start from"),
        ("pgd10", "; did you mean pgd-10?"),
        ("PGD_20", "; did you mean pgd-20?"),
        ("eot10-pgd20", "; did you mean eot10-pgd-20?"),
        ("relaxed-square-10", "gradients after relaxed-"),
        ("relaxed-transfer-pgd-20", "gradients after relaxed-"),
        ("relaxed-bpda-pgd-20", "gradients after relaxed-"),
        ("from:standard", "expected from:SUBJECT/ATTACK"),
        ("from:/pgd-10", "expected from:SUBJECT/ATTACK"),
        ("from:standard/nonsense-3", "expected an attack's name"),
        ("from:standard/pgd-10+bits=7", "expected levels=16 or bits=8, got"),
        ("from:standard/pgd-10+shrunk=1.5", "expected levels=16 or bits=8, got"),
        ("from:standard/pgd-10+levels=0", "levels=16 or bits=8"),
    ],
)
def test_wrong_names_are_refused_in_one_line(text, message):
    with pytest.raises(ValueError) as error:
        read_attack(text)
    assert message in str(error.value) and "\n" not in str(error.value)


ROOT = Path(__file__).parents[2]
PLACES = ("*.md", "docs/**/*.md", "reports/**/*.md", "reports/**/*.toml", "reports/**/*.csv", "**/run.json")


def test_every_name_in_committed_runs_and_documents_is_read_and_printed_as_it_is():
    texts = [path.read_text() for place in PLACES for path in ROOT.glob(place)]
    words = {word.strip(".;:()") for text in texts for word in re.split(r"[\s\"`|,]+", text)}
    found = 0
    for name in words:
        with contextlib.suppress(ValueError):
            assert str(read_attack(name)) == name
            found += 1
    assert found > 400  # reports/ holds the rows of most runs, and tests load the others


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ValueError):
        attack = read_attack(text)
        assert read_attack(str(attack)) == attack


WHOLE, NUMBER = st.integers(1, 9999), st.floats(0, 1, exclude_min=True)
WORD = st.text("abcXYZ_", min_size=1, max_size=6)
FIELDS = {
    "step_size": st.floats(0, exclude_min=True, allow_infinity=False),
    "start": st.just("clean"),
    "loss": st.sampled_from(LOSSES),
    **dict.fromkeys(("momentum", "apart"), NUMBER),
    **dict.fromkeys(("eot", "restarts", "targets", "target"), WHOLE),
}


@st.composite
def ours(draw, *, inner=False):
    """Any attack of this package that makes sense; what another starts from has no options."""
    declared = draw(st.sampled_from([each for each in ALGORITHMS.values() for _ in each.takes]))
    blind = declared.asks_answers_alone
    knows = draw(st.sampled_from(["fresh", "fixed", "aware", "transfer", *([] if blind else ["bpda"])]))
    fields = {part: FIELDS[part] for part in declared.takes if part != "steps"} | {"target": WHOLE}
    fields |= {"init": ours(inner=True)} if not inner else {}
    stated = {
        part: draw(values)
        for part, values in fields.items()
        if (part == "step_size" or not inner) and draw(st.booleans())
    }
    if "start" in stated:
        stated = {part: value for part, value in stated.items() if part not in ("init", "restarts")}
    if "steps" in declared.takes:
        stated["steps"] = draw(st.integers(declared.fewest_steps, 1_000_000))
    attack = Attack(
        declared.name, knows=knows, eot=draw(st.none() | WHOLE) if knows == "fresh" else None, **stated
    )
    return structs.replace(attack, relaxed=attack.differentiates and draw(st.booleans()))


OPTIONS = st.lists(st.tuples(WORD, WORD), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
NAMES = {
    "torchattacks": st.sampled_from(TORCHATTACKS_LINF),
    "autoattack": st.sampled_from(AUTOATTACK),
    "plugin": st.builds("{}.{}:{}".format, WORD, WORD, WORD),
}
PACKAGES = st.one_of(st.builds(Package, st.just(each), names, OPTIONS) for each, names in NAMES.items())
TRANSFORMS = st.lists(st.sampled_from([("shrunk", "0.9"), ("levels", "16"), ("bits", "8")]))
SUBMITTED = st.builds(
    Submitted, st.text("rci:N=4[]@ ", min_size=1), st.none() | ours() | PACKAGES, TRANSFORMS.map(tuple)
)


@settings(deadline=None, max_examples=500)
@given(ours(), PACKAGES | SUBMITTED)
def test_every_attack_is_read_back_from_its_name(attack, other):
    assert read_attack(str(attack)) == attack and read_attack(str(other)) == other


@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        ("pgd", {"steps": 10, "eot": 4, "step_size": 0.05}, "eot4-pgd-10@0.05"),
        ("relaxed-eot2-pgd-7+loss=dlr", {"eot": 3, "loss": "margin"}, "relaxed-eot3-pgd-7+loss=margin"),
        ("fgsm", {}, "fgsm"),
        ("fgsm", {"steps": 3}, "expected no number of steps after fgsm, got 'fgsm-3'"),
        ("aware-pgd-7", {"eot": 3}, "expected an attack's name, got 'eot3-aware-pgd-7'"),
        ("pgd", {"loss": "margin"}, "expected a number of steps after pgd, got 'pgd+loss=margin'"),
    ],
)
def test_parts_take_the_place_of_what_a_name_says(name, changes, wanted):
    try:
        assert str(read_changed(name, **changes)) == wanted
    except ValueError as error:
        assert str(error).startswith(wanted)


def test_presets_expand_in_order_without_duplicates():
    assert [*requested(["paper", "pgd-7", "pgd-10", " fgsm"])] == ["fgsm", "pgd-10", "pgd-100", "pgd-7"]
    assert {*requested(["adaptive"])} >= {"eot10-pgd-20", "fixed-pgd-10", "aware-pgd-10", "transfer-pgd-20"}
    for preset, names in presets.PRESETS.items():
        named = [name for name, request in requested([preset]).items() if request.on_batches]
        assert named == [*dict.fromkeys(names)]
    with pytest.raises(ValueError, match="got 'papers'; did you mean paper"):
        requested(["papers"])
    with pytest.raises(ValueError, match="presets: paper, adaptive"):
        requested(["everything"])
    with pytest.raises(ValueError, match="submitted by the evaluation itself"):
        requested(["pgd-10", "from:standard/pgd-10"])


def test_what_a_claim_is_about_runs_and_is_no_reserve():
    assert requested(["adaptive"])["square-1000"].if_hidden
    assert not requested(["adaptive"], also="square-1000")["square-1000"].if_hidden
    assert requested(["adaptive"], also="pgd-7")["pgd-7"] == (True, False, False, False)


def test_every_listed_name_is_a_name():
    for text in [*GRAMMAR, *presets.reference()]:
        assert text in presets.PRESETS or str(read_attack(text)) == text


def test_names_are_checked_and_listed_without_torch():
    code = "import sys, attacks.presets as p; p.reference(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FILLED = {
    "AVERAGED": (10,),
    "FROM_TRANSFER": ("aware", "eot10"),
    "OF_LENGTH": (10, 100),
    "AUTO_OF_LENGTH": (100,),
}
NAMED = {name for name in vars(presets) if name.isupper()} - {"PRESETS", "DEFAULT", "IN_L0", "GRAMMAR"}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_attack_that_is_named_is_in_full(name):
    value = getattr(presets, name)
    forms = (value,) if isinstance(value, str) else value
    attacks = [form.format(number) for form in forms for number in FILLED.get(name, ("",))]
    assert set(attacks) <= set(PRESETS["full"])
