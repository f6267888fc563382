import pytest

from robustbench_coded.schema.case import WHOLE_BATCH, ThreatModel


@pytest.mark.parametrize(
    "text",
    ["batch/unknown", "victim/known", "co-batch/unknown", "collateral-4/known", "collateral-16-box/unknown"],
)
def test_what_is_written_is_read_again(text):
    threat = ThreatModel.parse(text)
    assert str(threat) == text
    assert ThreatModel.parse(text) == threat and hash(ThreatModel.parse(text)) == hash(threat)


@pytest.mark.parametrize(
    "text", ["", "batch", "batch/", "batch/guessed", "everybody/known", "collateral-0/known",
             "collateral/known", "collateral-4-box-box/known", "batch/known/unknown"]
)  # fmt: skip
def test_what_is_no_threat_model_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        ThreatModel.parse(text)


def test_who_moves_and_how_far():
    box = ThreatModel.parse("collateral-4-box/known")
    assert (box.malicious, box.free, box.collateral, box.one_victim, box.draw_known) == (
        4,
        True,
        True,
        False,
        True,
    )
    free = ThreatModel.parse("co-batch/unknown")
    assert (free.malicious, free.free, free.collateral, free.one_victim) == (None, True, False, True)
    assert WHOLE_BATCH.inputs == "batch" and not WHOLE_BATCH.one_victim and not WHOLE_BATCH.free
    assert ThreatModel("victim", "unknown").one_victim and not ThreatModel("victim", "unknown").free
    assert WHOLE_BATCH.with_draw("known") == ThreatModel.parse("batch/known")
