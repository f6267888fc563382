"""``--match-clean rci``: baselines that cost as much clean accuracy as the defence they stand beside."""

import json

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.data.named_sets import load_digits

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--batch-size", "8", "--threads", "1", "--draws", "2", "--quiet")


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_erm):
    from robustbench_coded.cli.main import main
    from robustbench_coded.evaluation.setup import subjects

    out = tmp_path_factory.mktemp("matched") / "run"
    # N below K, so that there is something to match.
    options = [
        "--rci",
        "N=7",
        "--match-clean",
        "rci",
        "--attacks",
        "fgsm",
        "--limit",
        "16",
        "--out",
        str(out),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subjects, "EXAMPLES", 64)
        assert main(["eval", "--ckpt", f"erm={digits_erm}", *SMALL, "--no-standard", *options]) == 0
    return out


def test_every_baseline_gets_the_setting_that_costs_as_much(run):
    matched = json.loads((run / "run.json").read_text())["matched"]
    assert [match["spec"].partition(":")[0] for match in matched] == [
        "noise", "resize-pad", "mixup-inference",
    ]  # fmt: skip
    for match in matched[:2]:
        assert 0.3 < match["target_accuracy"] < 0.95 and match["target"] == "rci:N=7"
        assert match["accuracy"] == pytest.approx(match["target_accuracy"], abs=0.02), match
        assert match["examples"] == 64
    table = pd.read_csv(run / "summary.csv")
    assert {match["defence"] for match in matched} < set(table.defence)
    assert table[table.attack == "fgsm"].status.eq("done").all()


def test_the_report_states_the_setting_and_the_clean_accuracies(run):
    report = (run / "details.md").read_text()
    match = json.loads((run / "run.json").read_text())["matched"][0]
    clean = pd.read_csv(run / "summary.csv").query("attack == 'clean'").set_index("defence").accuracy
    assert f"sigma = {match['setting']:g} was chosen to be as accurate as rci:N=7" in report
    assert f"{100 * match['accuracy']:.1f}% and {100 * match['target_accuracy']:.1f}% of 64 inputs" in report
    evaluated = f"{100 * clean[match['defence']]:.1f}% and {100 * clean['rci']:.1f}% of those that are"
    assert evaluated in report


def test_only_what_is_named_without_a_strength_is_matched():
    from robustbench_coded.evaluation.options.check_options import (
        baselines_to_match,
        defence_to_match,
        plain_defences,
    )
    from robustbench_coded.evaluation.options.config import EvalConfig

    named = ("noise", "resize-pad:scale=0.9", "mixup-inference:samples=3", "rci:N=7", "rci:N=16")
    config = EvalConfig((), defences=named, match_clean="rci:N=7")
    assert baselines_to_match(config) == ["noise", "mixup-inference:samples=3"]
    assert plain_defences(config) == ("resize-pad:scale=0.9", "rci:N=7", "rci:N=16")
    assert defence_to_match(config) == "rci:N=7"
    assert plain_defences(EvalConfig((), defences=named)) == named


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--match-clean", "rci"), "--match-clean 'rci' names no defence of this run (none is given)"),
        (
            ("--match-clean", "rci", "--rci", "N=7", "--rci", "N=12"),
            "--match-clean rci names several defences; choose one of rci:N=7, rci:N=12",
        ),
        (
            ("--match-clean", "rci", "--rci", "N=7", "--defence", "noise:sigma=0.1"),
            "--match-clean has nothing to match: noise:sigma=0.1 has its setting",
        ),
        (
            ("--match-clean", "rci", "--rci", "N=7", "--batch-size", "8,16"),
            "--match-clean matches at one batch size",
        ),
        (("--match-clean", "rci", "--rci", "N=7", "--defence", "noise:tau=1"), "noise has no option 'tau'"),
        (("--defence", "noise"), "noise needs sigma"),
    ],
)
def test_what_cannot_be_matched_is_refused(csrobust, digits_erm, options, said):
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, *options)
    assert answer.code == 2 and said in answer.err, answer.err


def test_without_images_to_match_on_it_is_refused(csrobust, digits_erm, tmp_path):
    x, y = load_digits("test").batch(range(40))
    np.savez(tmp_path / "few.npz", x=(255 * x).byte().permute(0, 2, 3, 1).numpy(), y=y.numpy())
    data = ("--data", f"npz:{tmp_path / 'few.npz'}", "--match-clean", "rci", "--rci", "N=7", "--limit", "20")
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, *data)
    assert answer.code == 2 and "needs at least 32 images that are not evaluated, and 20 are" in answer.err
