"""The figure on top of a report: each attack has a rung, each subject a dot, and all lies within the axes."""

from dataclasses import replace

from attacks.presets import PRESETS
from robustbench_coded.reports.figures import curves
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import ENSEMBLE

MORE = ("torchattacks:PGD+steps=10", "relaxed-pgd-20", "bpda-pgd-20")


def test_every_attack_of_the_presets_has_a_rung(run):
    row = next(row for row in run.rows if row.attack == "pgd-10" and row.threat == WHOLE_BATCH)
    names = {name for preset in PRESETS.values() for name in preset} | set(MORE)
    for name in names:
        assert curves._rung(replace(row, case=row.case.of_attack(name))) in curves._ORDER, name


def test_a_rung_shows_the_lowest_of_its_attacks_and_the_ensemble_is_there(run, drawn):
    curves.draw_ladder(run.rows)
    subjects = {row.subject for row in run.rows}
    shown = {}
    for panel in drawn[0].axes:
        names = [text.get_text() for text in panel.get_yticklabels()]
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        for container in panel.containers:
            line = container.lines[0]
            for x, y in zip(*line.get_data(), strict=True):
                assert left <= x <= right and top <= y <= bottom
                shown[container.get_label(), names[round(y)]] = x
    assert len({label for label, _ in shown}) == len({subject.inference for subject in subjects})
    for row in run.rows:
        if row.attack == ENSEMBLE and row.threat == WHOLE_BATCH and row.accuracy is not None:
            assert any(
                rung == "all attacks" and abs(x - 100 * row.accuracy) < 1e-9 for (_, rung), x in shown.items()
            )
