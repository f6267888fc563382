import subprocess
import sys

import pytest

from robustbench_coded.defences.options import DEFENCES, parse_defence
from robustbench_coded.errors import InputError


@pytest.mark.parametrize(
    ("text", "label", "n"),
    [
        ("standard", "standard", None),
        ("coded:N=190", "coded", 190),
        ("rci:N=1.5K", "rci", 192),
        ("rci:N=k", "rci", 128),
        ("rci: N = 190 , average = 4", "rci[average=4]", 190),
        ("rci:average=1,N=190", "rci", 190),
        ("rci:N=190,blocks=2+0+1+0", "rci[blocks=0+1+2]", 190),
        ("rci:N=190,smoothing_encoder=1e-3,order=5,nodes=uniform", None, 190),
        ("noise:sigma=1/8", "noise[sigma=0.125]", None),
        ("resize-pad", "resize-pad[scale=0.8]", None),
        ("mixup-inference:samples=3", "mixup-inference[share=0.5,samples=3]", None),
        ("some.module:build", "some.module:build", None),
    ],
)
def test_label_and_coded_inputs(text, label, n):
    spec = parse_defence(text)
    assert spec.label == (label or "rci[nodes=uniform,order=5,smoothing_encoder=0.001]")
    assert spec.resolve_n(128) == n


def test_one_defence_has_one_spelling():
    assert parse_defence("rci:average=1,N=1.5k") == parse_defence("rci:N=1.5K")


def test_half_a_coded_input_is_rounded_up():
    assert parse_defence("rci:N=1.5K").resolve_n(127) == 191
    assert parse_defence("rci:N=1.15K").resolve_n(10) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rci", "needs the number of coded inputs"),
        ("rci:N=", "N= has no value"),
        ("rci:N=0K", "N=0K is not a number of coded inputs"),
        ("rci:N=3", "from 4 to 65536"),
        ("rci:N=-5", "from 4 to 65536"),
        ("rci:N=65K", "from 4 to 65536"),
        ("rci:N=1.5", "N=1.5 is not"),
        ("rci:N=nan", "N=nan is not"),
        ("rci:190", "'190' is not name=value; write --rci N=190"),
        ("rci:N=8,N=9", "N is given twice"),
        ("rci:N=8,avrage=4", "'avrage'; did you mean average"),
        ("coded:N=8,average=4", "coded has no option 'average'"),
        ("rci:N=8,average=0", "average 0 is too small; give 1 or more"),
        ("rci:N=8,blocks=1-3", "blocks '1-3'"),
        ("rci:N=8,order=2", "choose 1, 3 or 5"),
        ("rci:N=8,nodes=chebishev", "choose chebyshev or uniform"),
        ("rci:N=8,smoothing_decoder=-1", "smoothing_decoder -1 is too small; give 0 or more"),
        ("noise", "noise needs sigma; write noise:sigma=0.1"),
        ("noise:sigma=0", "sigma 0 is too small; give more than 0"),
        ("noise:sigma=inf", "sigma 'inf'"),
        ("noise:sigma=1/0", "sigma '1/0'"),
        ("resize-pad:scale=1.5", "scale 1.5 is too large; give 1 or less"),
        ("standard:N=4", "it takes none"),
        ("nois", "did you mean noise?"),
        ("module:", "is not known"),
        ("", "is not known"),
    ],
)
def test_wrong_specifications_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as refusal:
        parse_defence(text)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_defence_listed_can_be_parsed():
    needed = {"coded": ":N=8", "rci": ":N=8", "noise": ":sigma=0.1"}
    for name in DEFENCES:
        assert parse_defence(name + needed.get(name, "")).kind == ("plugin" if ":" in name else name)


def test_parsing_needs_no_torch():
    code = "import sys; import robustbench_coded.defences.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
