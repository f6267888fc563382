"""Weights that others published: architectures, and what `reports/outside` counts of their page."""

import json

import pytest

from benchmarks.errors import outside
from benchmarks.peers import published_truth as known
from benchmarks.peers import published_weights as weights

ROW = ("net", "linf, 0.1", "256", "{published}", "{by}", "98%", "90% (80 to 95)", "`{word}`", "{side}", "3")
SHAPES = {"conv1": (4, 4, 1, 16), "conv2": (4, 4, 16, 32), "fc1": (1568, 100), "fc2": (100, 10)}


@pytest.mark.parametrize(
    ("least", "most", "side"), [(0.90, 0.94, "below"), (0.93, 0.97, "agrees"), (0.97, 0.99, "above")]
)
def test_an_interval_that_misses_the_published_accuracy_is_no_agreement(tmp_path, least, most, side):
    row = weights.Row("WK17a", "no failure found", 256, 0.98, least, (least + most) / 2, most, 1.0)
    (tmp_path / "WK17a.json").write_text(json.dumps(weights.asdict(row)))
    _, line = weights.network_table(tmp_path)
    assert line[8] == side and line[3] == "95.6%"


@pytest.mark.parametrize(
    ("published", "by", "word", "side", "truth", "missed"),
    [
        ("95.6%", "MIP", "no failure found", "agrees", "robust", False),
        ("95.6%", "MIP", "broken", "below", "robust", True),
        ("95.6%", "MIP", "not settled", "above", "robust", True),
        ("0.0 to 49.3%", "DDN", "broken", "agrees", "undecided", False),
        ("0.0%", "PGD", "not settled", "agrees", "broken", True),
    ],
)
def test_published_figures_are_counted_by_what_they_prove(
    monkeypatch, published, by, word, side, truth, missed
):
    (head,) = weights.network_table(weights.PAGE.parent / "nowhere")
    values = [cell.format(published=published, by=by, word=word, side=side) for cell in ROW]
    pages = {"networks": [dict(zip(head, values, strict=True))], "images": [], "claims": []}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    (judged,) = outside.published()
    assert (judged.truth, judged.missed) == (truth, missed)


def test_images_broken_below_their_least_change_are_misses(monkeypatch):
    image = {"image": "mnist 7", "norm": "linf", "broken at it": "no", "broken one pixel value below": "yes"}
    pages = {"networks": [], "images": [image], "claims": []}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    at, below = outside.published()
    assert at.missed and below.missed and (at.says, below.says) == ("open", "broken")


def test_a_refuted_claim_needs_an_explanation_and_is_no_truth(monkeypatch, tmp_path):
    """A claim of chance is the truth of a broken network; one of another model is none."""
    words = ("claim refuted", "no failure found", "not settled", "claim refuted", "claim refuted")
    chosen = [*known.CLAIMS[:4], next(claim for claim in known.CLAIMS if claim.of)]
    for claim, word in zip(chosen, words, strict=True):
        row = weights.Row(claim.name, word, 128, 0.84, 0.1, 0.15, 0.2, 9.0)
        (tmp_path / f"{claim.name.replace(' ', '-')}.json").write_text(json.dumps(weights.asdict(row)))
    head, *lines = weights.claim_table(tmp_path)
    assert [line[1] for line in lines] == [
        "linf, 8/255", "linf, 8/255 of normalised pixels", "linf, 8/255", "linf, 0.3", "linf, 0.3",
    ]  # fmt: skip
    pages = {"networks": [], "images": [], "claims": [dict(zip(head, line, strict=True)) for line in lines]}
    monkeypatch.setattr(outside, "rows", lambda page, name: pages[name])
    judged = list(outside.published())
    assert [one.missed for one in judged] == [True, False, False, False, False]
    assert [one.truth for one in judged] == ["claimed"] * 3 + ["broken", "undecided"]
