import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from robustbench_coded.runs.outcomes import (
    SCHEMA,
    DamagedFile,
    read_table,
    with_short_margins,
    write_outcomes,
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


def read_outcomes(path):
    table, metadata = read_table(path)
    return table.to_pandas(), metadata


def unit_table(**constant):
    return pa.Table.from_pandas(rows(**constant), SCHEMA, preserve_index=False)


def test_rows_and_metadata_come_back(tmp_path):
    path = tmp_path / "unit.parquet"
    write_outcomes(path, unit_table(), {"unit": "u", "forwards": 7})
    back, metadata = read_outcomes(path)
    assert list(back.columns) == SCHEMA.names
    assert metadata == {"unit": "u", "forwards": 7}
    for column in SCHEMA.names:
        if column != "margin":
            np.testing.assert_array_equal(back[column].to_numpy(), rows()[column].to_numpy())


def test_margins_are_rounded_to_the_nearest_of_16_bits():
    # 1 + 2^-7 is the next after 1; what lies half-way goes to the even one, what is not finite stays.
    step = 2.0**-7
    given = [
        1 + 0.49 * step,
        1 + 0.5 * step,
        1 + 0.51 * step,
        1 + 1.5 * step,
        -3.0,
        np.inf,
        -np.inf,
        np.nan,
    ]
    stored = [1, 1, 1 + step, 1 + 2 * step, -3.0, np.inf, -np.inf, np.nan]
    table = unit_table().slice(0, len(given))
    table = table.set_column(table.column_names.index("margin"), "margin", pa.array(given, pa.float32()))
    margins = with_short_margins(table).column("margin").to_numpy()
    np.testing.assert_array_equal(margins, stored)
    assert not (margins.view(np.uint32) & 0xFFFF).any()


def test_nulls_come_back(tmp_path):
    path = tmp_path / "unit.parquet"
    missing = pd.Series([None] * 500, dtype="Int32")
    write_outcomes(path, unit_table(k=missing, n=missing, step_size=np.nan), {"unit": "u"})
    back, _ = read_outcomes(path)
    assert back.k.isna().all() and back.step_size.isna().all()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_outcomes(tmp_path / name, unit_table(), {"unit": "u"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_flipped_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "unit.parquet"
    write_outcomes(path, unit_table(), {"unit": "u"})
    whole = path.read_bytes()
    expected, _ = read_outcomes(path)
    found = 0
    for position in np.random.default_rng(1).integers(0, len(whole), 80):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            back, metadata = read_outcomes(path)
        except DamagedFile:
            found += 1
        else:  # a byte that carries no value, such as the writer's name
            pd.testing.assert_frame_equal(back, expected)
            assert metadata == {"unit": "u"}
    assert found > 40


def test_altered_values_with_an_intact_container_are_found(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "unit.parquet"
    write_outcomes(path, unit_table(), {"unit": "u"})
    table = pq.read_table(path)
    column = table.column("prediction").to_numpy().copy()
    column[3] += 1
    position = table.schema.get_field_index("prediction")
    altered = table.set_column(position, "prediction", pa.array(column, pa.int32()))
    pq.write_table(altered.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(DamagedFile, match="hash"):
        read_outcomes(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a parquet file" * 50])
def test_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "unit.parquet"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"unit\.parquet"):
        read_outcomes(path)
