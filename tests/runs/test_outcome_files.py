import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from robustbench_coded.runs import outcomes
from robustbench_coded.runs.outcomes import (
    SCHEMA,
    TOGETHER,
    DamagedFile,
    digest_of,
    units_in,
    with_short_margins,
    write_units,
)


def rows(count=500, **constant):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "checkpoint": "a", "defence": "rci", "k": pd.Series([128] * count, dtype="Int32"),
            "n": pd.Series([190] * count, dtype="Int32"), "threat": "batch/unknown", "attack": "pgd-10",
            "norm": "linf",
            "eps": 8 / 255, "eps_space": "pixel", "step_size": 2 / 255, "purpose": "scoring",
            "example": np.arange(count), "label": rng.integers(0, 10, count),
            "batch": np.arange(count) // 128,
            "slot": np.arange(count) % 128, "draw": 0, "prediction": rng.integers(0, 10, count),
            "margin": rng.normal(size=count).astype(np.float32),
        }
    )  # fmt: skip
    return frame.assign(**constant)


def unit_table(**constant):
    return pa.Table.from_pandas(rows(**constant), SCHEMA, preserve_index=False)


def test_rows_come_back(tmp_path):
    path = tmp_path / "unit.parquet"
    write_units(path, {"u": unit_table()})
    (back,) = units_in(path).values()
    assert back.rows.column_names == SCHEMA.names and back.digest == digest_of(unit_table())
    for column in SCHEMA.names:
        if column != "margin":
            now, given = back.rows.to_pandas()[column], rows()[column]
            np.testing.assert_array_equal(now.to_numpy(), given.to_numpy())


def test_units_in_one_file_are_what_they_are_alone(tmp_path):
    units = {"b": unit_table(), "a": unit_table(attack="fgsm", count=7), "c": unit_table(defence="coded")}
    write_units(tmp_path / TOGETHER, units)
    together = units_in(tmp_path / TOGETHER)
    assert list(together) == ["b", "a", "c"]
    for name, table in units.items():
        write_units(tmp_path / "alone.parquet", {name: table})
        assert together[name].digest == units_in(tmp_path / "alone.parquet")[name].digest
        assert together[name].rows.equals(units_in(tmp_path / "alone.parquet")[name].rows)


def test_a_unit_without_rows_is_in_no_file_and_no_file_has_no_units(tmp_path):
    write_units(tmp_path / "unit.parquet", {"u": SCHEMA.empty_table()})
    assert units_in(tmp_path / "unit.parquet") == {} == units_in(tmp_path / "none.parquet")


def test_margins_are_rounded_to_the_nearest_of_16_bits():
    # 1 + 2^-7 is the next after 1; what lies half-way goes to the even one, what is not finite stays.
    step = 2.0**-7
    given = [1 + 0.49 * step, 1 + 0.5 * step, 1 + 0.51 * step, 1 + 1.5 * step, -3.0, np.inf, -np.inf, np.nan]
    stored = [1, 1, 1 + step, 1 + 2 * step, -3.0, np.inf, -np.inf, np.nan]
    table = unit_table().slice(0, len(given))
    table = table.set_column(table.column_names.index("margin"), "margin", pa.array(given, pa.float32()))
    margins = with_short_margins(table).column("margin").to_numpy()
    np.testing.assert_array_equal(margins, stored)
    assert not (margins.view(np.uint32) & 0xFFFF).any()


def test_nulls_come_back(tmp_path):
    path = tmp_path / "unit.parquet"
    missing = pd.Series([None] * 500, dtype="Int32")
    write_units(path, {"u": unit_table(k=missing, n=missing, step_size=np.nan)})
    back = units_in(path)["u"].rows.to_pandas()
    assert back.k.isna().all() and back.step_size.isna().all()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_units(tmp_path / name, {"u": unit_table()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_flipped_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "unit.parquet"
    write_units(path, {"u": unit_table()})
    whole, expected = path.read_bytes(), digest_of(unit_table())
    found = 0
    for position in np.random.default_rng(1).integers(0, len(whole), 80):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            back = units_in(path)
        except DamagedFile:
            found += 1
        else:  # a byte that carries no value, such as the writer's name, or one that the digest tells of
            found += back.keys() != {"u"} or back["u"].digest != expected
    assert found > 40


def test_a_value_changes_the_digest():
    frame = rows()
    frame.loc[3, "prediction"] += 1
    changed = pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)
    assert digest_of(changed) != digest_of(unit_table()) == digest_of(unit_table())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a parquet file" * 50])
def test_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "unit.parquet"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"unit\.parquet"):
        units_in(path)


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch):
    path = tmp_path / "unit.parquet"
    write_units(path, {"u": unit_table()})
    first = units_in(path)
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "_read", lambda path: pytest.fail("read again"))
        assert units_in(path) == first
    write_units(path, {"u": unit_table(attack="fgsm")})
    assert units_in(path)["u"].digest != first["u"].digest


def test_memory_is_bounded(tmp_path, monkeypatch):
    write_units(tmp_path / "unit.parquet", {"u": unit_table()})
    units = units_in(tmp_path / "unit.parquet")
    monkeypatch.setattr(outcomes, "MOST_BYTES", -1)
    kept = outcomes._Cache()
    for name in ("a", "b"):
        kept.put(tmp_path / name, (1, 1, 1), units)
    assert kept.get(tmp_path / "a", (1, 1, 1)) is None
