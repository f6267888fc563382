"""A screening needs no defence."""

import json
from pathlib import Path

import pandas as pd

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--threads", "1", "--quiet")


def test_standard_inference_is_screened(csrobust):
    earlier = ("--attacks", "fgsm", "--eps", "0.05", "--out", "run")
    assert csrobust("eval", "--ckpt", "digits-erm", *SMALL, *earlier).code == 0
    again = ("--eps", "0.05", "--time", "0.001s", "--out", "run")
    answer = csrobust("screen", "--ckpt", "digits-erm", *SMALL, *again)
    assert answer.code == 0, answer.err
    assert "report: run/report.html" in answer.out
    # No attack had time. What was there before stays, and what is planned counts as not run.
    assert json.loads(Path("run/run.json").read_text())["protocol"]["stopped"]
    rows = pd.read_csv("run/summary.csv").set_index("attack")
    assert rows.status["fgsm"] == "done"
    assert {"pgd-20", "apgd-mt-20"} <= set(rows.index[rows.status == "incomplete"])
