"""``csrobust eval`` from options to files: contents, repeatability, extension."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from robustbench_coded.cli.main import main
from tests.run_folders import computed, digests, outcomes

SMALL = ("--data", "digits", "--limit", "40", "--first", "--batch-size", "16", "--threads", "1")
SMALL += ("--draws", "4", "--quiet")
ATTACKS = ("--attacks", "fgsm,pgd-3,eot2-pgd-2,fixed-pgd-2,aware-pgd-2,transfer-pgd-3")
COMMAND = ("eval", *SMALL, *ATTACKS, "--rci", "N=1.5K")


def files(run):
    """Everything that must be the same every time: not times, and not when and how the run was started."""
    kept = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_file() and name not in ("log.jsonl", "run.json", ".lock"):
            kept[name] = path.read_bytes()
    return kept


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_erm):
    out = tmp_path_factory.mktemp("eval") / "run"
    assert main([*COMMAND, "--ckpt", f"erm={digits_erm}", "--out", str(out)]) == 0
    return out


def test_the_summary_has_a_row_for_every_attack(run):
    table = pd.read_csv(run / "summary.csv")
    assert (table.status == "done").all()
    rci = table[table.defence == "rci"]
    submitted = set(rci.attack[rci.attack.str.startswith("from:")])
    rci = rci[~rci.attack.isin(submitted)]
    assert set(rci[rci.threat == "batch/unknown"].attack) == {
        "clean", "random-sign", "fgsm", "pgd-3", "eot2-pgd-2", "fixed-pgd-2", "transfer-pgd-3", "strongest",
        "ensemble",
    }  # fmt: skip
    assert "aware-pgd-2" in set(rci[rci.threat == "batch/known"].attack)
    standard = table[table.defence == "standard"]
    # Standard inference has no base model to transfer from, and no draw to know.
    own = standard.attack[~standard.attack.str.startswith("from:")]
    assert not own.str.contains("transfer|aware").any()
    assert standard.k.isna().all() and standard.n.isna().all()
    assert set(rci.k) == {16} and set(rci.n) == {24}


def test_images_are_counted_with_draws_coded_and_filling_inputs(run):
    rows = {(row.defence, row.attack): row for row in pd.read_csv(run / "summary.csv").itertuples()}
    batches, n, k, examples = 3, 24, 16, 40  # the last batch of 8 is filled up to 16
    per_forward = batches * n / examples
    assert rows["rci", "pgd-3"].forwards_per_example == pytest.approx(3 * per_forward)
    assert rows["rci", "eot2-pgd-2"].backwards_per_example == pytest.approx(2 * 2 * per_forward)
    assert rows["rci", "aware-pgd-2"].forwards_per_example == pytest.approx(2 * 2 * per_forward)
    assert rows["rci", "transfer-pgd-3"].forwards_per_example == pytest.approx(3 * batches * k / examples)
    assert rows["standard", "fgsm"].forwards_per_example == 1
    assert rows["rci", "clean"].forwards_per_example == 0


def test_outcomes_are_complete_and_belong_to_their_batches(run):
    frame = outcomes(run)
    rci = frame[(frame.defence == "rci") & (frame.attack == "pgd-3")]
    assert len(rci) == 40 * (4 + 2)
    assert set(rci.purpose) == {"scoring", "selection"}
    assert (rci.example == rci.batch * 16 + rci.slot).all()
    aware = frame[frame.attack == "aware-pgd-2"]
    assert set(aware.draw) == {0, 1} and set(aware.purpose) == {"scoring"}
    keys = ["defence", "threat", "attack", "eps", "purpose", "example", "draw"]
    assert not frame.duplicated(keys).any()
    right = (frame.prediction == frame.label) == (frame.margin > 0)
    assert right[frame.margin.abs() > 1e-5].all()


def test_the_same_command_gives_the_same_bytes_whatever_ran_before(run, csrobust, digits_erm, tmp_path):
    torch.manual_seed(123)
    np.random.seed(5)
    torch.rand(1000)
    before = torch.get_rng_state()
    out = tmp_path / "run"
    assert csrobust(*COMMAND, "--ckpt", f"erm={digits_erm}", "--out", out).code == 0
    assert torch.equal(torch.get_rng_state(), before)
    mine, theirs = files(run), files(out)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


def test_an_attack_gives_the_same_outcomes_in_any_company_and_with_more_draws(
    run, csrobust, digits_erm, tmp_path
):
    out = tmp_path / "run"
    options = ("--attacks", "pgd-3", "--no-standard", "--rci", "N=1.5K", "--draws", "8", "--out", out)
    assert csrobust("eval", "--ckpt", f"erm={digits_erm}", *SMALL, *options).code == 0
    alone, among = outcomes(out), outcomes(run)
    among = among[(among.defence == "rci") & (among.attack == "pgd-3")]
    alone = alone[(alone.attack == "pgd-3") & ((alone.purpose == "selection") | (alone.draw < 4))]
    order = ["purpose", "draw", "example"]
    for name in ("prediction", "margin"):
        np.testing.assert_array_equal(
            alone.sort_values(order)[name].to_numpy(), among.sort_values(order)[name].to_numpy()
        )


def test_more_attacks_and_defences_extend_a_run(run, csrobust, digits_erm, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    before = computed(out)
    more = ("--attacks", "pgd-2", "--rci", "N=16", "--coded", "N=24", "--out", out)
    assert csrobust("eval", "--ckpt", f"erm={digits_erm}", *SMALL, *more).code == 0
    assert set(before) < digests(out).keys() and len(set(computed(out))) == len(computed(out))
    table = pd.read_csv(out / "summary.csv")
    assert {"coded", "rci", "standard"} == set(table.defence)
    assert set(table[table.defence == "rci"].n) == {16, 24}
    assert {"pgd-2", "pgd-3"} <= set(table[table.defence == "standard"].attack)


def test_eps_zero_changes_nothing(csrobust, digits_erm, tmp_path):
    out = tmp_path / "run"
    attacks = ("--attacks", "fgsm,pgd-2,aware-pgd-2,transfer-pgd-2", "--eps", "0", "--rci", "N=1.5K")
    assert csrobust("eval", "--ckpt", digits_erm, *SMALL, *attacks, "--out", out).code == 0
    frame = outcomes(out)
    frame = frame[frame.purpose == "scoring"].set_index(["defence", "example", "draw"])
    clean = frame[frame.attack == "clean"]
    for attack in set(frame.attack) - {"clean"}:
        mine = frame[frame.attack == attack]
        assert (mine.prediction == clean.prediction.reindex(mine.index)).all(), attack


def test_without_out_the_folder_is_named_and_found_again(csrobust, digits_erm, tmp_path):
    for _ in range(2):
        assert csrobust("eval", "--ckpt", digits_erm, *SMALL, "--attacks", "fgsm").code == 0
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 1 and folders[0].name.startswith("digits-erm-")


def test_a_last_batch_that_is_not_full_is_scored(csrobust, digits_erm, tmp_path):
    out = tmp_path / "run"
    # Each victim has a whole batch of its own.
    victims = ("--attacks", "fgsm,transfer-pgd-1", "--inputs", "batch,victim")
    options = (*victims, "--rci", "N=1.5K", "--no-standard", "--out", out)
    assert csrobust("eval", "--ckpt", digits_erm, *SMALL, *options).code == 0
    table = pd.read_csv(out / "summary.csv")
    assert (table.status == "done").all()
    examples = {threat: set(rows.examples) for threat, rows in table.groupby("threat")}
    assert examples == {"batch/unknown": {40}, "victim/unknown": {40}}


OWN = """
class Own:
    name, randomised, batch_dependent, base = "own", False, False, None

    def __init__(self, model):
        self.model = model

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.model(x)
"""


def test_a_defence_without_a_base_is_not_attacked_by_transfer(csrobust, digits_erm, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    options = ("--attacks", "pgd-2,aware-pgd-2,transfer-pgd-2", "--defence", "own.py:Own", "--out", "run")
    assert csrobust("eval", "--ckpt", digits_erm, *SMALL, *options).code == 0
    table = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert set(table.defence) == {"standard", "own"}
    assert not table.attack.str.startswith("transfer").any()


def test_a_sweep_answers_its_question_with_intervals_and_stops_when_settled(digits_erm, tmp_path, capsys):
    out = tmp_path / "sweep"
    sizes = ("--rci", "N=1.5K", "--batch-size", "4,8", "--attacks", "fgsm,transfer-pgd-3")
    small = ("--data", "digits", "--limit", "64", "--threads", "1", "--draws", "2", "--until", "settled")
    assert main(["sweep", "--ckpt", str(digits_erm), *small, *sizes, "--quiet", "--out", str(out)]) == 0
    table = pd.read_csv(out / "summary.csv")
    worst = table[(table.attack == "ensemble") & (table.defence == "rci")]
    assert worst.k.tolist() == [4, 8] and (worst.batches >= 100).all()
    assert (worst.ci_low < worst.ci_high).all()
    shown = " ".join(capsys.readouterr().out.split())
    assert "accuracy does not depend on K within" in shown or "differs from that at K = 4 by" in shown
    assert (out / "report.md").read_text().count("Does accuracy depend on the batch size?") == 1
