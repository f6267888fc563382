"""run.json and threat models."""

import json

import pytest
from msgspec import to_builtins

from benchmarks.evidence import REPORTS, listed
from robustbench_coded.schema.case import KEY_COLUMNS, WHOLE_BATCH, Case, ThreatModel
from robustbench_coded.schema.manifest import ManifestError, manifest_from

# Of earlier runs, and read by nothing.
UNREAD = {"last_batch", "relaxed_gradients", "verdicts_sharing", "outlook"}
RUNS = listed(REPORTS, "*/run.json")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_every_committed_run_is_read_and_written_without_loss(path):
    data = json.loads(path.read_text())
    again = json.loads(json.dumps(to_builtins(manifest_from(data))))

    def lost(one, other, where):
        if isinstance(one, dict):
            # Of fields that a manifest no longer has, only empty ones lose nothing.
            kept = [name for name in one if (one[name] or name in other) and name not in UNREAD]
            return [at for name in kept for at in lost(one[name], other.get(name), f"{where}.{name}")]
        if isinstance(one, list):
            pairs = zip(one, other, strict=True)
            return [at for i, (a, b) in enumerate(pairs) for at in lost(a, b, f"{where}[{i}]")]
        return [] if one == other else [where]

    del data["format_version"], data["sha256"]  # written by the run folder
    assert lost(data, again, "run.json") == []


def test_a_case_is_one_key_wherever_it_stands():
    manifest = manifest_from(json.loads(RUNS[0].read_text()))
    keys = [case.case for case in manifest.cases]
    assert len(set(keys)) == len(keys)
    for case in keys:
        columns = case.as_columns()
        assert tuple(columns) == KEY_COLUMNS and Case.from_columns(columns) == case
        assert case.setting.of_attack(case.attack, case.step_size) == case


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cases": 3}, "cases: expected `array`, got `int`"),
        ({"notes": None}, "notes: expected `array`, got `null`"),
        ({"identity": 1}, "identity: expected `object`, got `int`"),
        ({"finished": "yes"}, "finished: expected `bool`, got `str`"),
    ],
)
def test_every_part_is_checked(change, said):
    with pytest.raises(ManifestError, match="^" + said.replace("`", ".")):
        manifest_from({**json.loads(RUNS[0].read_text()), **change})


def test_what_only_informs_may_be_missing():
    data = json.loads(RUNS[0].read_text())
    del data["probes"], data["finished"], data["invocations"][0]["git"]
    manifest = manifest_from(data)
    assert manifest.probes == () and manifest.finished is False
    assert manifest.invocations[0].git.commit is None


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
