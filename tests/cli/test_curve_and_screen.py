"""Curves are printed with an interval at every point; a screening needs no defence."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from robustbench_coded.reports.render.terminal import excess

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--threads", "1", "--quiet")


def test_a_curve_is_printed_with_intervals(csrobust):
    answer = csrobust("curve", "--ckpt", "digits-erm", *SMALL, "--attacks", "fgsm", "--eps", "0.3,0,8/255")
    assert answer.code == 0, answer.err
    said = " ".join(answer.out.split())
    point = r"\d+\.\d \[\d+\.\d, \d+\.\d\]"
    title = "Standard inference on digits-erm, batch/unknown, fgsm over eps: "
    above = r"\d+\.\d points above the lowest of all attacks"
    assert re.search(f"{title}0: {point} 8/255: {point} 0.3: {point} {above}", said), said
    assert max(map(len, answer.out.splitlines())) <= 80


def test_the_area_above_the_best_of_all_is_that_of_trapezoids():
    best = {0.0: 1.0, 0.1: 0.5, 0.3: 0.0}
    assert excess(best, [best]) == 0
    # 0.2 above at 0.1, between points on the best curve: (0.1 * 0.2 / 2 + 0.2 * 0.2 / 2) / 0.3.
    worse = best | {0.1: 0.7}
    assert excess(worse, [worse, best]) == pytest.approx(0.1)


def test_standard_inference_is_screened(csrobust):
    earlier = ("--attacks", "fgsm", "--eps", "0.05", "--out", "run")
    assert csrobust("eval", "--ckpt", "digits-erm", *SMALL, *earlier).code == 0
    again = ("--eps", "0.05", "--seconds", "0.001", "--out", "run")
    answer = csrobust("screen", "--ckpt", "digits-erm", *SMALL, *again)
    assert answer.code == 0, answer.err
    assert "report: run/report.html" in answer.out
    # No attack had time. What was there before stays, and what is planned counts as not run.
    assert json.loads(Path("run/run.json").read_text())["protocol"]["stopped"]
    rows = pd.read_csv("run/summary.csv").set_index("attack")
    assert rows.status["fgsm"] == "done"
    assert {"pgd-20", "apgd-mt-20"} <= set(rows.index[rows.status == "incomplete"])
