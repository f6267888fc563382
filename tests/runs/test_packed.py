"""A finished run in few files: nothing is lost, and the folder is a run in every respect."""

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.runs.folder import RunFolder, read_run, read_selftests
from robustbench_coded.runs.outcomes import OUTCOMES, packed_units

pytestmark = pytest.mark.long

OPTIONS = (
    "--ckpt", "digits-erm", "--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm",
    "--rci", "N=1.5K", "--draws", "2", "--threads", "1", "--quiet",
)  # fmt: skip
KINDS = ("outcomes", "timings")


def files(run, kinds=KINDS):
    return {file.relative_to(run): file.read_bytes() for kind in kinds for file in (run / kind).iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "run"
    assert main(["eval", *OPTIONS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def packed(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    assert main(["compact", str(out)]) == 0
    return out


def units_of(run):
    return sorted(file.stem for file in (run / "outcomes").iterdir())


def test_a_run_is_two_files_with_the_same_content(run, packed):
    assert [path.name for path in (packed / "outcomes").iterdir()] == ["packed.parquet"]
    assert [path.name for path in (packed / "timings").iterdir()] == ["packed.json"]
    before, after = read_run(run, units_of(run)), read_run(packed, units_of(run))
    pd.testing.assert_frame_equal(after[0], before[0])
    assert after[1:] == before[1:] and len(after[1]) == len(files(run, ["outcomes"])) > 5
    assert main(["report", str(packed), "--quiet"]) == 0
    for name in ("summary.csv", "timings.csv", "verdicts.csv", "report.md"):
        assert (packed / name).read_bytes() == (run / name).read_bytes()


def test_self_tests_are_read_from_one_file_and_newer_ones_first(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    first, second, damaged = (letter * 20 for letter in "abc")
    with RunFolder(out) as folder:
        folder.commit_selftests(first, {"tests": [1]})
        folder.commit_selftests(second, {"tests": [2]})
        (out / "selftests" / f"{damaged}.json").write_text("{")
    assert main(["compact", str(out)]) == 0
    assert [path.name for path in (out / "selftests").iterdir()] == ["packed.json"]
    with RunFolder(out) as folder:
        assert folder.has_selftests(first) and not folder.has_selftests(damaged)
        folder.commit_selftests(second, {"tests": [3]})
    assert [read_selftests(out, name) for name in (first, second)] == [{"tests": [1]}, {"tests": [3]}]
    assert main(["compact", str(out)]) == 0
    assert read_selftests(out, second) == {"tests": [3]}


def test_the_command_goes_on_with_the_same_files(run, packed):
    assert main(["eval", *OPTIONS, "--out", str(packed)]) == 0
    assert files(packed) == files(run)
    assert main(["eval", *OPTIONS, "--attacks", "fgsm,pgd-2", "--out", str(packed)]) == 0
    more = len(files(packed, ["outcomes"]))
    assert main(["compact", str(packed), str(packed)]) == 0  # twice is as good as once
    assert len(packed_units(packed)) == more > len(files(run, ["outcomes"]))


def test_a_unit_that_was_altered_is_computed_again(run, packed):
    file = packed / OUTCOMES
    source = pq.ParquetFile(file)
    table = source.read()
    margin = table.column("margin").to_pylist()
    margin[0] += 1.0
    changed = table.set_column(table.schema.get_field_index("margin"), "margin", [margin])
    pq.write_table(changed.cast(table.schema), file)
    units = units_of(run)
    assert len(read_run(packed, units)[1]) == len(read_run(run, units)[1]) - 1
    assert main(["eval", *OPTIONS, "--out", str(packed)]) == 0
    assert files(packed, ["outcomes"]) == files(run, ["outcomes"])


def test_a_file_that_cannot_be_read_is_named_and_kept_aside(run, packed, capsys):
    file = packed / OUTCOMES
    file.write_bytes(file.read_bytes()[:-100])
    before = files(packed)
    for command in ("report", "show"):  # earlier reports are not replaced by ones that have nothing
        capsys.readouterr()
        assert main([command, str(packed)]) == 2
        said = capsys.readouterr().err
        assert f"{file} can't be read" in said and said.count("\n") == 1
        assert files(packed) == before
    assert main(["eval", *OPTIONS, "--out", str(packed)]) == 0
    kept = files(packed, ["outcomes"])
    assert kept.pop(file.with_name("packed.parquet.damaged").relative_to(packed))
    assert kept == files(run, ["outcomes"])


def test_a_damaged_outcome_file_is_not_packed(run, tmp_path, capsys):
    out = shutil.copytree(run, tmp_path / "run")
    victim = sorted((out / "outcomes").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:50])
    before = files(out)
    assert main(["compact", str(out)]) == 2
    said = capsys.readouterr().err
    assert victim.name in said and said.count("\n") == 1
    assert files(out) == before
