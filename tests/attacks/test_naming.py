import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import presets
from attacks.catalogue import SEARCH_DRAWS
from attacks.naming import expand, parse
from robustbench_coded.schema.words import COMBINED, CONTROLS

NAMES = {
    "fgsm": ("fresh", 1, "fgsm", None, None),
    "pgd-10": ("fresh", 1, "pgd", 10, None),
    "pgd-100@1/255": ("fresh", 1, "pgd", 100, 1 / 255),
    "eot10-pgd-20": ("fresh", 10, "pgd", 20, None),
    "fixed-pgd-10": ("fixed", 1, "pgd", 10, None),
    "aware-pgd-10": ("aware", 1, "pgd", 10, None),
    "transfer-pgd-20": ("transfer", 1, "pgd", 20, None),
    "bpda-pgd-20": ("bpda", 1, "pgd", 20, None),
    "apgd-ce-100": ("fresh", 1, "apgd-ce", 100, None),
    "transfer-fgsm@1/255": ("transfer", 1, "fgsm", None, 1 / 255),
    "square-1000": ("fresh", SEARCH_DRAWS, "square", 1000, None),
    "eot5-square-1000": ("fresh", 5, "square", 1000, None),
}


@pytest.mark.parametrize("text", NAMES)
def test_names_mean_what_they_say(text):
    name = parse(text)
    assert (name.estimator, name.draws, name.algorithm, name.steps, name.step_size) == NAMES[text]
    assert name.text == text and name.third_party is None and name.options == ()


def test_options_and_peers():
    name = parse("aware-apgd-ce-50+init=transfer-pgd-20+restarts=3")
    assert dict(name.options) == {"init": "transfer-pgd-20", "restarts": "3"}
    assert name.init == parse("transfer-pgd-20") and name.uses_base
    assert not parse("aware-apgd-ce-50").uses_base and parse("bpda-fgsm").uses_base
    name = parse("torchattacks:PGD+steps=10+alpha=0.01")
    assert (name.third_party, name.algorithm, name.steps) == ("torchattacks", "PGD", 10)
    assert dict(name.options) == {"steps": "10", "alpha": "0.01"}
    assert (parse("autoattack:rand").third_party, parse("autoattack:rand").algorithm) == (
        "autoattack",
        "rand",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg-10", "expected an attack's name, got 'pdg-10'; did you mean pgd-10"),
        ("pgd", "expected a number of steps after pgd, got 'pgd'; did you mean pgd-1"),
        ("spsa-20", "expected 32 queries or more for spsa, got 'spsa-20'"),
        ("fgsm-3", "expected no number of steps after fgsm"),
        ("pgd-0", "expected an attack's name, got 'pgd-0'"),
        ("pgd-10@0", "expected a step size above 0"),
        ("pgd-10@nan", "expected a step size above 0"),
        ("apgd-ce-100@1/255", "expected no step size, which apgd-ce sets by itself"),
        ("bpda-square-100", "expected an attack with gradients after bpda-"),
        ("torchattacks:PDG", "expected an attack of torchattacks, got 'PDG'; did you mean PGD"),
        ("autoattack:standart", "expected an attack of autoattack, got 'standart'; did you mean standard"),
        ("pgd-10+targets=2", "expected init or loss or momentum or restarts or target as an option"),
        ("pgd-10+target=-1", "expected the number of a class, from 0, for target, got 'pgd-10+target=-1'"),
        ("pgd-10+loss=hinge", "expected a loss out of ce, margin, dlr, got 'pgd-10+loss=hinge'"),
        ("random-10+apart=2", "expected a number from 0 to 1 for apart, got 'random-10+apart=2'"),
        ("pgd-10+momentum=2", "expected a number from 0 to 1 for momentum, got 'pgd-10+momentum=2'"),
        ("apgd-ce-10+restarts=x", "expected a whole number below 10,000 for restarts"),
        ("pgd-1000001", "expected at most 1,000,000 steps or draws, got 'pgd-1000001'"),
        (f"eot{'9' * 5000}-pgd-10", "expected at most 1,000,000 steps or draws"),
        ("apgd-ce-10+restarts=2+restarts=3", "expected each option once"),
        ("eotauto-pgd-20", "expected an attack's name, got 'eotauto-pgd-20'; did you mean eot10-pgd-20"),
    ],
)
def test_wrong_names_are_refused_in_one_line(text, message):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value) and "\n" not in str(error.value)


ROOT = Path(__file__).parents[2]
COMMITTED = sorted([*ROOT.glob("reports/*/run.json"), *ROOT.glob("board-entries/*/run/run.json")])


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_names_in_committed_runs_stay_names(path):
    run = json.loads(path.read_text())
    names = {record["case"]["attack"] for record in run["cases"]} - {*CONTROLS, *COMBINED}
    for call in run["invocations"]:
        for option in ("attacks", "victim_attacks", "relaxed_attacks", "second_attacks"):
            names.update(call["options"].get(option) or ())
    for name in names:
        assert parse(name).text == name


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ValueError):
        assert parse(text).text == text.strip()


def test_presets_expand_in_order_without_duplicates():
    assert [n.text for n in expand("paper,pgd-7,pgd-10, fgsm")] == ["fgsm", "pgd-10", "pgd-100", "pgd-7"]
    adaptive = {n.text for n in expand("adaptive")}
    assert adaptive >= {"eot10-pgd-20", "fixed-pgd-10", "aware-pgd-10", "transfer-pgd-20"}
    for preset in presets.PRESETS:
        texts = [n.text for n in expand(preset)]
        assert len(texts) == len(set(texts))
    with pytest.raises(ValueError, match="got 'papers'; did you mean paper"):
        expand("papers")
    with pytest.raises(ValueError, match="presets: paper, adaptive"):
        expand("everything")
    with pytest.raises(ValueError, match="expected names of attacks"):
        expand(" , ")


def test_every_listed_name_is_a_name():
    for text in presets.LISTED:
        assert parse(text).text == text


def test_names_are_checked_without_torch():
    code = "import sys, attacks.naming; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", ["relaxed-pgd-20", "relaxed-eot4-apgd-ce-50", "relaxed-aware-pgd-10"])
def test_relaxed_goes_before_any_attack_with_gradients_of_the_defence(text):
    name, plain = parse(text), parse(text.removeprefix("relaxed-"))
    assert name.relaxed and not plain.relaxed
    assert replace(name, relaxed=False, text=plain.text) == plain


@pytest.mark.parametrize("text", ["relaxed-square-10", "relaxed-transfer-pgd-20", "relaxed-bpda-pgd-20"])
def test_relaxed_is_refused_before_attacks_without_them(text):
    with pytest.raises(ValueError, match="gradients after relaxed-"):
        parse(text)


@pytest.mark.parametrize(
    ("typed", "meant"), [("pgd10", "pgd-10"), ("PGD_20", "pgd-20"), ("eot10-pgd20", "eot10-pgd-20")]
)
def test_a_missing_dash_is_the_first_thing_that_may_be_meant(typed, meant):
    with pytest.raises(ValueError, match=rf"did you mean {meant}\?$"):
        parse(typed)
