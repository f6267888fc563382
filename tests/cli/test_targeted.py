"""Attacks towards a class, by the command line: how often they get there, against a linear network."""

import csv

import pytest
import torch

from robustbench_coded import evaluate

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--threads", "1", "--quiet")


def test_a_targeted_attack_leads_to_its_class(csrobust, digits_erm, tmp_path):
    attacks = ("--attacks", "fgsm,pgd-10+target=3", "--eps", "0.4", "--draws", "2", "--out", "run")
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--rci", "N=1.5K", *attacks)
    assert answer.code == 0, answer.err
    with (tmp_path / "run" / "summary.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for defence in ("standard", "rci"):
        of = {row["attack"]: row for row in rows if row["defence"].startswith(defence)}
        low, share, high = (of["pgd-10+target=3"][f"{end}reached"] for end in ("ci_low_", "", "ci_high_"))
        share = float(share)
        # RCI's two disjoint batches have no interval.
        assert (low, high) == ("", "") if defence == "rci" else float(low) <= share <= float(high)
        assert share > 0.3
        # On examples of other classes what got to the target is wrong.
        assert float(of["pgd-10+target=3"]["accuracy"]) <= 1 - 0.85 * share
        assert of["fgsm"]["reached"] == ""
    assert "Reaches its target" in (tmp_path / "run" / "report.html").read_text()


def test_how_often_a_linear_network_is_led_to_a_class(tmp_path):
    """FGSM is optimal: class c wins where its logit is the largest after each value moved by eps for it."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 3)
    x, y = 0.3 + 0.4 * torch.rand(200, 1, 2, 2), torch.arange(200) % 3
    eps, target = 0.1, 2
    network = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
    with torch.no_grad():
        gaps = network(x) - network(x)[:, [target]]  # of each class to the target
        reach = eps * (linear.weight - linear.weight[target]).abs().sum(1)
    possible = (gaps - reach <= 0).all(1)  # necessary; sufficient where one other class is in the way
    run = evaluate(
        {"linear": network}, (x, y), attacks="apgd-ce-50+target=2", eps=eps, threads=1, out=tmp_path / "run",
        batch_size=(100,),
    )  # fmt: skip
    (row,) = (row for row in run.rows if row.attack == "apgd-ce-50+target=2")
    others = y != target
    already = float((gaps.argmax(1)[others] == target).double().mean())
    most = float(possible[others].double().mean())
    assert already < row.reached.estimate <= most + 1e-9
    assert row.reached.estimate == pytest.approx(most, abs=0.05)
