"""Curves are printed with an interval at every point; a screening needs no defence."""

import re

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--threads", "1", "--quiet")


def test_a_curve_is_printed_with_intervals(csrobust):
    answer = csrobust("curve", "--ckpt", "digits-erm", *SMALL, "--attacks", "fgsm", "--eps", "0.3,0,8/255")
    assert answer.code == 0, answer.err
    said = " ".join(answer.out.split())
    point = r"\d+\.\d \[\d+\.\d, \d+\.\d\]"
    title = "Standard inference on digits-erm, batch/unknown, fgsm over eps: "
    assert re.search(f"{title}0: {point}; 8/255: {point}; 0.3: {point}", said), said


def test_standard_inference_alone_is_screened(csrobust):
    answer = csrobust("screen", "--ckpt", "digits-erm", *SMALL, "--seconds", "0.001", "--out", "run")
    assert answer.code == 0, answer.err
    assert "Standard inference on digits-erm, batch/unknown: " in answer.out
    assert re.search(r"Verdict: .+\. All rows: run/report.md\n$", answer.out), answer.out
