"""What studies over seeds have in common: records that are read back as they were written, means, pairs."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from robustbench_coded.errors import InputError
from robustbench_coded.paper.studies.over_seeds import Records, spread


class Measured(NamedTuple):
    name: str
    n: int | None
    seed: int
    figure: float | None


ROWS = [Measured("a, b", 96, 0, 1 / 3), Measured("c", None, 1, None)]


def test_records_go_on_where_they_stopped(tmp_path):
    records = Records(tmp_path / "found.csv", Measured)
    assert records.rows == []
    records.add(ROWS[:1])
    records.add([ROWS[1]._replace(figure=np.float64(0.25))])
    assert (tmp_path / "found.csv").read_text() == (
        'name,n,seed,figure\n"a, b",96,0,0.3333333333333333\nc,,1,0.25\n'
    )
    again = Records(tmp_path / "found.csv", Measured)
    assert again.rows == [ROWS[0], ROWS[1]._replace(figure=0.25)]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "name,n,seed,figure\nc,1\n", "name,n,seed,figure\nc,1,x,0.5\n", "\0\xff"]
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "found.csv").write_text(text)
    with pytest.raises(InputError, match=r"found\.csv: not written by this command .*; give another --out"):
        Records(tmp_path / "found.csv", Measured)


def test_a_mean_has_students_interval():
    values = [1.0, 2.0, 4.0]
    found = spread(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high)) and found.seeds == 3
    assert spread([5.0]) == (5.0, None, None, 1) and spread([5.0]).text() == "5.00"
