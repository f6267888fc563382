import pytest

from robustbench_coded.schema.case import WHOLE_BATCH, ThreatModel


@pytest.mark.parametrize("text", ["batch/unknown", "victim/known", "co-batch/unknown"])
def test_what_is_written_is_read_again(text):
    threat = ThreatModel.parse(text)
    assert str(threat) == text
    assert ThreatModel.parse(text) == threat and hash(ThreatModel.parse(text)) == hash(threat)


@pytest.mark.parametrize(
    "text", ["", "batch", "batch/", "batch/guessed", "everybody/known", "batch/known/unknown"]
)  # fmt: skip
def test_what_is_no_threat_model_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        ThreatModel.parse(text)


def test_who_moves_and_how_far():
    free = ThreatModel.parse("co-batch/unknown")
    assert free.free and free.one_victim and not free.draw_known
    assert WHOLE_BATCH.inputs == "batch" and not WHOLE_BATCH.one_victim and not WHOLE_BATCH.free
    assert ThreatModel("victim", "unknown").one_victim and not ThreatModel("victim", "unknown").free
    assert WHOLE_BATCH.with_draw("known") == ThreatModel.parse("batch/known")
