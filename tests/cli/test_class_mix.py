"""``--class-mix``: the same images in other batches, in run.json and in the report."""

import json

import pytest

from tests.cli.conftest import outcomes

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--limit", "40", "--batch-size", "20", "--rci", "N=24", "--attacks", "fgsm")
SMALL += ("--draws", "2", "--selection-draws", "1", "--threads", "1", "--quiet")


def test_the_same_images_are_scored_in_batches_of_equal_classes(csrobust, digits_erm, tmp_path):
    rows, units = {}, {}
    for mix in ("balanced", "shuffled"):
        run = tmp_path / mix
        found = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--class-mix", mix, "--out", run)
        assert found.code == 0, found.err
        rows[mix], units[mix] = outcomes(run), {file.name for file in (run / "outcomes").iterdir()}
        stored = json.loads((run / "run.json").read_text())["identity"].get("class_mix")
        assert stored == {"balanced": "balanced", "shuffled": None}[mix]
    assert set(rows["balanced"].example) == set(rows["shuffled"].example)
    assert not units["balanced"] & units["shuffled"]
    clean = rows["balanced"].query("attack == 'clean' and draw == 0 and defence == 'rci'")
    assert clean.groupby(["batch", "label"]).example.nunique().between(1, 3).all()
    said = "about such batches"
    assert said in (tmp_path / "balanced" / "report.md").read_text()
    assert said not in (tmp_path / "shuffled" / "report.md").read_text()
    run = tmp_path / "balanced"
    refused = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--class-mix", "data", "--out", run)
    assert refused.code == 2 and "--class-mix balanced" in refused.err
