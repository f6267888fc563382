import pytest

from robustbench_coded.schema.case import ThreatModel


@pytest.mark.parametrize("text", ["batch/unknown", "victim/known", "co-batch/unknown"])
def test_what_is_written_is_read_again(text):
    assert str(ThreatModel.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "batch", "batch/", "batch/guessed", "everybody/known", "batch/known/unknown"]
)  # fmt: skip
def test_what_is_no_threat_model_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        ThreatModel.parse(text)
