"""What people type wrong: one line that says what, where and how to mend it; nothing is written."""

import json

import numpy as np
import pytest

E = ("eval", "--ckpt", "digits-erm")
TABLE = [
    ([*E, "--attacks", "clean"], "this always runs; name an attack besides"),
    ([*E, "--attacks", "pgd10"], "did you mean pgd-10?"),
    ([*E, "--attacks", "PGD-10"], "did you mean pgd-10?"),
    ([*E, "--attacks", "pgd"], "a number of steps after pgd"),
    ([*E, "--attacks", "fgsm-10"], "no number of steps after fgsm"),
    ([*E, "--attacks", "autoattack"], "did you mean autoattack:standard?"),
    ([*E, "--attacks", "pgd-0"], "did you mean pgd-10"),
    ([*E, "--attacks", "pgd-10@0"], "a step size above 0 such as 1/255"),
    ([*E, "--attacks", "pgd-10+step=3"], "expected init or start or loss or momentum"),
    ([*E, "--attacks", ""], "empty name; write names divided by single commas"),
    ([*E, "--eps", "8"], "write 8/255, not 8"),
    ([*E, "--epsilon", "8"], "write 8/255, not 8"),
    ([*E, "--eps", "eight"], "is not a number; write 8/255 or 0.03"),
    ([*E, "--eps", "-8/255"], "is too small; give 0 or more"),
    ([*E, "--eps", "8/0"], "'8/0' is not a number"),
    ([*E, "--eps", "nan"], "'nan' is not a number"),
    ([*E, "--eps", "1e-400"], "'1e-400' is not a number of usual size"),
    ([*E, "--eps", "1/1e999999999"], "is not a number of usual size"),
    ([*E, "--claim", "72% eps=0.1 eps=0.2"], "--claim: eps=0.2 is its second eps"),
    ([*E, "--claim", "72% pgd-10 fgsm"], "--claim: fgsm is its second attack"),
    ([*E, "--claim", "72% batch/unknown votes=3 victim/unknown"], "is its second threat"),
    ([*E, "--eps", "0.1;0.2"], "'0.1;0.2' is not a number"),
    ([*E, "--norm", "Linf2"], "choose linf, l2, l1 or l0"),
    ([*E, "--rci", "190"], "write --rci N=190"),
    ([*E, "--rci", "N=abc"], "write N=190 or N=1.5K"),
    ([*E, "--rci", "N=0"], "from 4 to 65536"),
    ([*E, "--rci", "n=190"], "did you mean N?"),
    ([*E, "--defence", "rci"], "write --rci N=190"),
    ([*E, "--defence", "nosuchdefence"], "csrobust list defences"),
    ([*E, "--defence", "noise:sigma=-1"], "noise: sigma -1 is too small; give more than 0"),
    ([*E, "--defence", "noise:sigm=0.1"], "did you mean sigma?"),
    ([*E, "--draws", "1.5"], "'1.5' is not a whole number"),
    ([*E, "--limit", "0"], "give 1 or more"),
    ([*E, "--limit", "all"], "'all' is not a whole number"),
    ([*E, "--workers", "-1"], "give 1 or more"),
    ([*E, "--seed", "1.5"], "'1.5' is not a whole number"),
    ([*E, "--time", "forever"], "write 90s, 30m or 2h"),
    ([*E, "--margin", "300"], "give 100 or less"),
    ([*E, "--claim", "abc"], "write 0.72 or 72%"),
    ([*E, "--fail-on", "bad"], "choose from broken, no-gain"),
    ([*E, "--data", "cifr10"], "did you mean cifar10?"),
    ([*E, "--data", "npz:x.npz"], "no array named y (it holds x)"),
    ([*E, "--data", "folder:nowhere"], "nowhere: no such folder"),
    ([*E, "--data", "text"], "known: auto, digits, cifar10"),
    ([*E, "--normalize", "imagnet"], "did you mean imagenet?"),
    ([*E, "--arch", "resnet21"], "expected depth 6 n + 2"),
    (
        [*E, "--arch", "net.py"],
        "--arch net.py: name the function in it that returns the network: net.py:build",
    ),
    ([*E, "--device", "gpu"], "write cpu, cuda"),
    ([*E, "--state", "full"], "choose reset or persistent"),
    ([*E, "--until", "done"], "choose settled"),
    ([*E, "--out", "text"], "text is a file; give --out a folder"),
    ([*E, "--out", "/dev/null/x"], "give another --out"),
    (["eval", "--ckpt", "text"], "text: not a checkpoint"),
    (["eval", "--ckpt", "empty"], "empty: not a file"),
    (["eval", "--ckpt", ""], "'' is not PATH or NAME=PATH"),
    (["eval", "--ckpt", "."], ".: not a file"),
    (["eval", "digits-erm"], "a checkpoint is named with --ckpt digits-erm"),
    (["eval"], "name one with --ckpt model.pt"),
    (["eval", "nowhere.toml"], "nowhere.toml: can't be read"),
    (["eval", "not.toml"], "not a TOML file"),
    (["eval", "unknown.toml"], "no option 'epsilons'"),
    (["eval", "--chkpt", "a.pt"], "did you mean --ckpt?"),
    (["compare", "empty"], "not a run folder (it has no run.json)"),
    (["report", "empty", "--format", "word"], "choose from md, html, every-eval-ever"),
    (["list", "everything"], "choose from attacks, models"),
    (["report", "empty"], "not a run folder"),
    (["evl"], "'eval'"),
]


TEXTS = {
    "text": "hello",
    "not.toml": "a = [",
    "unknown.toml": 'ckpt = "digits-erm"\nepsilons = 3\n',
}


def write_files(folder):
    (folder / "empty").mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    np.savez(folder / "x.npz", x=np.full((4, 8, 8, 1), 200, np.uint8))


@pytest.mark.parametrize(("arguments", "said"), TABLE, ids=[" ".join(a) for a, _ in TABLE])
def test_one_line_and_nothing_written(csrobust, tmp_path, arguments, said):
    write_files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    answer = csrobust(*arguments)
    assert (answer.code, answer.out) == (2, ""), answer.err
    assert said in answer.err and answer.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def images(answer):
    """By rung."""
    rungs = json.loads(answer.out)["rungs"]
    return {rung["rung"]: rung["most"] for rung in rungs}


def test_clean_inputs_may_be_named_among_the_attacks(csrobust):
    small = ("--data", "digits", "--limit", "16", "--batch-size", "16")
    named, plain = (
        csrobust("plan", "--ckpt", "digits-erm", *small, "--attacks", attacks, "--json")
        for attacks in ("clean,random-sign,fgsm", "fgsm")
    )
    assert named.code == 0 and images(named) == images(plain)
