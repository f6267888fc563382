"""The examples with the largest drop in margin, and ``csrobust show``."""

import json

import numpy as np
import pytest
import torch

from robustbench_coded import evaluate
from robustbench_coded.cli.commands.runs import show_command
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.reports.run.examples import worst_examples
from robustbench_coded.run import load_run

pytestmark = pytest.mark.long

ACCURACIES = {
    ("clean", "batch/unknown"): (0.9, 0.75),
    ("random-sign", "batch/unknown"): (0.9, 0.75),
    ("pgd-10", "batch/unknown"): (0.5, 0.5),
    ("transfer-pgd-20", "batch/unknown"): (None, 0.25),
}


def test_those_that_lost_most_draws_come_first(make_run):
    run = load_run(make_run(accuracies=ACCURACIES))
    found = worst_examples(run, 12)
    assert len(found) == 12
    assert {w.case.attack for w in found} == {"transfer-pgd-20"}
    lost = []
    o = run.outcomes
    scored = o[(o.purpose == "scoring") & (o.defence == "rci")]
    for worst in found:
        own = scored[(scored.attack == "transfer-pgd-20") & (scored.example == worst.example)]
        clean = scored[(scored.attack == "clean") & (scored.example == worst.example)]
        assert (own.prediction == own.label).sum() == worst.right
        lost.append((clean.prediction == clean.label).sum() - worst.right)
        assert sum(worst.answers.values()) == worst.draws == 4
        assert worst.margin == pytest.approx(own.margin.mean())
    right = (scored.prediction == scored.label).groupby([scored.attack.astype(str), scored.example]).sum()
    assert lost == sorted(lost, reverse=True)
    assert lost[0] == (right["clean"] - right["transfer-pgd-20"]).max()


def test_show_prints_a_run_and_one_of_its_examples(make_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = make_run(accuracies=ACCURACIES)
    assert show_command(path) == 0
    out = capsys.readouterr().out
    assert "Transfer PGD-20" in out
    assert show_command(path, 5, as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["attack"] for row in data["rows"]][:2] == ["clean", "random-sign"]
    assert {row["label"] for row in data["rows"]} == {"5"}
    assert show_command(path, 5) == 0
    assert "transfer-pgd-20" in capsys.readouterr().out


def test_show_refuses_an_example_that_is_not_there(make_run):
    with pytest.raises(InputError, match=r"--example 128: .* its 128 examples lie between 0 and 127"):
        show_command(make_run(accuracies=ACCURACIES), 128)


def test_perturbed_images_are_those_that_were_answered():
    x, y = load_data("digits").batch(range(24))
    weights = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))

    def model(images):
        return images.flatten(1) @ weights.T

    y = model(x).argmax(1)  # all of them are right
    given = {"eps": 0.3, "attacks": "pgd-10", "quiet": True}
    run = evaluate(model, (x, y), save_adversarials=True, **given)
    found = run.examples(5)
    assert len(found) == 5
    for example in found:
        assert np.array_equal(example.clean, x[example.about.example].numpy())
        assert 0 < np.abs(example.difference).max() <= 0.3 + 1e-6
        answer = model(torch.from_numpy(example.perturbed)[None]).argmax().item()
        assert example.about.answers == {answer: 1} and answer != example.about.label
    with pytest.raises(InputError, match="stores no perturbed inputs; evaluate with save_adversarials=True"):
        evaluate(model, (x, y), **given).examples()
