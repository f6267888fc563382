"""The page of all runs: what it shows is what the runs' tables say, and it opens from a disk."""

import json
import re
import shutil
from html import unescape

import pandas as pd
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.write import write_reports

SETTING = ["checkpoint", "defence", "k", "n", "threat", "norm", "eps", "eps_space"]


@pytest.fixture(scope="module")
def both(invented_run, hostile_run, tmp_path_factory):
    """Two runs below one folder, one with hostile names."""
    folder = tmp_path_factory.mktemp("view")
    shutil.copytree(invented_run, folder / "deeper" / "plain")
    write_reports(folder / "deeper" / "plain")
    shutil.copytree(hostile_run, folder / "hostile")
    return folder


@pytest.fixture
def runs(both, tmp_path):
    """A copy of the two, to be changed."""
    return shutil.copytree(both, tmp_path / "runs")


def read(file):
    """The view, its rows as pairs of run and cells, and what it knows of each."""
    text = file.read_text()
    rows = re.findall(r'<tr data-index="\d+".*?</tr>', text, re.DOTALL)
    cells = [
        [unescape(re.sub("<[^>]+>", " ", c)).split() for c in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for row in rows
    ]
    known = json.loads(re.search(r'id="measured">(.*?)</script>', text, re.DOTALL)[1])
    return text, rows, cells, known


def settings_of(run):
    """The summary of a run by setting, without unperturbed inputs, in the order of the file."""
    summary = pd.read_csv(run / "summary.csv").astype(object).fillna("")
    return summary, summary[summary.attack != "clean"].groupby(SETTING, sort=False)


def test_every_setting_has_a_row_with_its_verdict_and_accuracies(runs):
    assert main(["view", str(runs)]) == 0
    text, rows, cells, known = read(runs / "view.html")
    assert len(text.encode()) < 1_000_000
    at = 0
    for run in (runs / "deeper" / "plain", runs / "hostile"):
        verdicts = pd.read_csv(run / "verdicts.csv").astype(object).fillna("").set_index(SETTING)
        summary, settings = settings_of(run)
        for setting, lines in settings:
            word = verdicts.verdict.get(setting, "no verdict")
            assert f'data-verdict="{word}"' in rows[at]
            ensemble = lines[lines.attack == "ensemble"]
            if len(ensemble):
                assert cells[at][5][0] == f"{100 * ensemble.accuracy.iloc[0]:.1f}"
            shown = {known["names"][name]: figure for name, *figure in known["rows"][at]}
            for line in lines[lines.attack != "strongest"].itertuples():
                if line.accuracy != "":
                    assert abs(shown[one_line(line.attack)][0] - 1000 * line.accuracy) <= 0.5
            assert ("clean" in shown) == (lines.checkpoint.iloc[0] in set(summary.checkpoint))
            at += 1
    assert at == len(rows) == len(known["rows"])


def test_the_page_asks_the_network_for_nothing_and_names_run_nothing(runs):
    assert main(["view", str(runs)]) == 0
    text = (runs / "view.html").read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert "default-src 'none'" in text
    assert text.count("<script") == 2  # the page's own, and its data
    assert "<img" not in text


def test_links_are_relative_to_the_page_wherever_it_is(runs, tmp_path):
    out = tmp_path / "site" / "index.html"
    assert main(["view", str(runs), "--out", str(out)]) == 0
    links = set(re.findall(r'<a href="([^"#]+)(?:#\w+)?"', out.read_text()))
    assert len(links) == 2
    assert all((out.parent / link).resolve().is_file() for link in links)


def test_a_run_that_cannot_be_read_is_named(runs):
    (runs / "deeper" / "plain" / "summary.csv").unlink()
    broken = runs / "other"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert main(["view", str(runs)]) == 0
    text = (runs / "view.html").read_text()
    said = text[text.index("<h2>Not shown</h2>") :]
    assert "plain: its tables can&#39;t be read" in said
    assert "other/run.json can&#39;t be read" in said


def test_what_cannot_be_written_is_refused(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["view", str(tmp_path / "empty")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["view", str(runs), "--out", str(runs)]) == 2
    assert "is a folder; give a file" in capsys.readouterr().err
