"""The board: what it shows is what its runs say, its pages stand alone, and its rules are kept."""

import html
import json
import re
import shutil
from dataclasses import replace

import msgspec
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.extras.board.entry import Board, schema
from robustbench_coded.extras.board.submit import check_hashes, hashes_of
from robustbench_coded.extras.published.registry import PUBLISHED
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed

ENTRY = """
name = "My coded inference"
defence = "rci"
checkpoint = "erm"
link = "https://arxiv.org/abs/2510.00253"
code = "https://example.org/code"
weights = "https://example.org/weights"
contact = "somebody@example.org"
claim = "60% on CIFAR-10 at linf 8/255"
reported = 0.6
breaks = [["an evaluation", "10% is left"]]
"""


@pytest.fixture(scope="module")
def site(invented_run, tmp_path_factory):
    """A board of an invented run: RCI beside its base model."""
    folder = tmp_path_factory.mktemp("board") / "site"
    assert main(["board", str(invented_run), "--out", str(folder)]) == 0
    return invented_run, folder


def board_in(folder):
    return msgspec.json.decode((folder / "board.json").read_bytes(), type=Board)


def test_entries_have_the_figures_of_the_run(site):
    path, folder = site
    run = load_run(path)
    entries = {entry.threat: entry for entry in board_in(folder).entries}
    judged = {str(j.threat): j for j in run.judgements if j.subject.defence == "rci"}
    assert set(entries) == set(judged) == {"batch/unknown", "batch/known", "victim/unknown"}
    for threat, entry in entries.items():
        verdict = judged[threat].verdict
        assert entry.verdict == verdict.name and entry.reason == verdict.reason
        assert entry.ensemble.estimate == verdict.accuracy.estimate
        assert entry.strongest_attack == judged[threat].attack
        assert (entry.name, entry.venue) == ("Randomised coded inference", "arXiv 2510.00253")
        assert (entry.k, entry.n, entry.kind) == (32, 48, "random, batch-dependent")
    usual = entries["batch/unknown"]
    assert (usual.usual_attack, round(usual.usual_acc, 2)) == ("pgd-10", 0.29)
    assert usual.base_acc == 0.0 and usual.clean_acc == pytest.approx(0.88, abs=0.01)


def test_standard_inference_is_no_entry_unless_its_training_is_a_defence(make_run, subject, tmp_path, capsys):
    alone = make_run("alone", subjects=[subject("erm")])
    assert main(["board", str(alone), "--out", str(tmp_path / "site")]) == 2
    assert "have no published defence" in capsys.readouterr().err
    facts = {"name": "a", "sha256": "0" * 64, "metadata": {"recipe": "pgd-at"}, "arch": "resnet20"}
    trained = make_run("trained", subjects=[subject("a")], changes={"checkpoints": [facts]})
    assert main(["board", str(trained), "--out", str(tmp_path / "site")]) == 0
    (entry,) = board_in(tmp_path / "site").entries
    assert (entry.name, entry.kind) == ("Adversarial training", "deterministic")


def test_a_network_trained_behind_its_defence_is_said_to_be(make_run, subject, tmp_path):
    noise = "published:parametric-noise"
    trained = {"recipe": "pgd-at", "defence": noise, "start": "digits-pgd-at 0a", "epoch": 1}
    footnotes = {}
    for name, metadata in {"trained": trained, "other": {"recipe": "pgd-at"}}.items():
        facts = {"name": "a", "sha256": "0" * 64, "metadata": metadata, "arch": "resnet20"}
        run = make_run(name, subjects=[subject("a"), subject("a", noise)], changes={"checkpoints": [facts]})
        assert main(["board", str(run), "--out", str(tmp_path / f"{name}-site")]) == 0
        for entry in board_in(tmp_path / f"{name}-site").entries:
            footnotes[name, entry.defence] = entry.footnote
    # Without its noise the network is no entry: it was trained for something else.
    assert set(footnotes) == {("trained", noise), ("other", noise)}
    setting = "the scale of the noise stays at 0.25, from where the paper trains it; "
    behind = "the network was trained behind it (pgd-at, 1 epoch from digits-pgd-at)"
    assert footnotes["trained", noise] == setting + behind
    assert footnotes["other", noise] == setting + "around a network that was not trained with noise"


def test_a_claim_that_the_run_weighed_stands_beside_its_figures(make_run, subject, tmp_path):
    options = {"claim": {"value": 0.6, "eps": 8 / 255}, "inputs": ["batch"]}
    run = make_run("claimed", changes={"invocations": [{"options": options}]})
    assert main(["board", str(run), "--out", str(tmp_path / "site")]) == 0
    reported = {entry.threat: entry.reported for entry in board_in(tmp_path / "site").entries}
    assert reported == {"batch/unknown": 0.6, "batch/known": None, "victim/unknown": None}


def test_board_json_follows_its_schema(site):
    _, folder = site
    assert (folder / "board.schema.json").read_bytes() == schema()
    stated = json.loads(schema())["$defs"]["BoardEntry"]["properties"]
    for entry in json.loads((folder / "board.json").read_text())["entries"]:
        assert set(entry) == set(stated)


def test_the_page_asks_the_network_for_nothing_and_is_small(site):
    _, folder = site
    text = (folder / "index.html").read_text()
    assert len(text) < 1_000_000
    loaded = re.findall(r"(?<![-\w])(?:src=|url\()[\"']?([^\"'\s>)]*)", text)
    assert all(target.startswith("data:") for target in loaded)
    assert "default-src 'none'" in text and 'name="viewport"' in text
    assert set(re.findall(r'href="#([^"]+)"', text)) == set(re.findall(r'<details id="([^"]+)"', text))


def test_rows_can_be_filtered_by_threat_norm_and_kind(site):
    _, folder = site
    text = (folder / "index.html").read_text()
    assert set(re.findall(r'data-filter="(\w+)"', text)) == {"data", "threat", "norm", "kind", "verdict"}
    assert text.count('data-threat="batch/unknown" data-norm="linf" data-kind="random, batch-dependent"') == 1


def test_the_same_runs_give_the_same_bytes(site):
    path, folder = site
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert main(["board", str(path), "--out", str(folder)]) == 0
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_hostile_names_stay_text(make_run, subject, tmp_path):
    checkpoint, defence = "<script>alert(1)</script>", 'x"><img src=x onerror=alert(1)>'
    run = make_run("hostile", subjects=[subject(checkpoint), subject(checkpoint, defence, 32, 48)])
    folder = tmp_path / "entry"
    shutil.copytree(run, folder / "run")
    text = ENTRY.replace('"rci"', json.dumps(defence)).replace('"erm"', json.dumps(checkpoint))
    (folder / "entry.toml").write_text(text.replace("My coded inference", checkpoint))
    (folder / "SHA256SUMS").write_text(hashes_of(folder))
    assert main(["board", str(folder), "--out", str(tmp_path / "site")]) == 0
    for page in (tmp_path / "site").rglob("*.html"):
        assert "<script>alert" not in page.read_text() and "<img src=x" not in page.read_text()


@pytest.fixture
def accepted(make_run):
    """A run that keeps the rules."""
    accuracies = {(name, "batch/unknown"): (0.0, 0.1) for name in ("fgsm", "pgd-10", "pgd-100")}
    accuracies |= {("clean", "batch/unknown"): (0.9, 0.9), ("random-sign", "batch/unknown"): (0.8, 0.8)}
    run = make_run("accepted", accuracies=accuracies)
    (run / "adversarials").mkdir()
    return run


@pytest.mark.parametrize("protocol", [True, False])
def test_attacks_that_were_named_are_not_the_protocol(accepted, tmp_path, protocol):
    manifest = json.loads((accepted / "run.json").read_text())
    manifest["invocations"][0]["options"]["checks"] = protocol
    (accepted / "run.json").write_text(sealed(manifest))
    assert submitted(accepted, tmp_path) == (0 if protocol else 2)


def submitted(run, tmp_path, text=ENTRY):
    (tmp_path / "entry.toml").write_text(text)
    return main(["submit", str(run), "--entry", str(tmp_path / "entry.toml"), "--out", str(tmp_path / "in")])


def test_a_submitted_entry_says_what_its_author_says_and_what_was_measured(accepted, tmp_path):
    assert submitted(accepted, tmp_path) == 0
    folder = tmp_path / "in" / "my-coded-inference"
    assert main(["board", str(folder), "--out", str(tmp_path / "site")]) == 0
    (entry,) = board_in(tmp_path / "site").entries
    assert (entry.name, entry.reported, entry.stored) == ("My coded inference", 0.6, True)
    assert entry.breaks[0].says == "10% is left"
    assert entry.ensemble.estimate == pytest.approx(0.1, abs=0.01)


def test_every_submission_keeps_its_own_figures_and_name(accepted, tmp_path, capsys):
    """Each holds its run in a folder of one name."""
    for name in ("one", "other"):
        assert submitted(accepted, tmp_path, ENTRY.replace("My coded", f"{name} coded")) == 0
    folders = [tmp_path / "in" / f"{name}-coded-inference" for name in ("one", "other")]
    assert main(["board", *map(str, folders), "--out", str(tmp_path / "site")]) == 0
    entries = board_in(tmp_path / "site").entries
    assert len({entry.id for entry in entries}) == len(entries) == 2
    assert {entry.run for entry in entries} == {folder.name for folder in folders}
    copy = shutil.copytree(folders[0], tmp_path / "copies" / folders[0].name)
    assert main(["board", str(folders[0]), str(copy), "--out", str(tmp_path / "b")]) == 2
    assert "two folders are named one-coded-inference" in capsys.readouterr().err


def test_a_changed_file_of_an_entry_is_noticed(accepted, tmp_path, capsys):
    assert submitted(accepted, tmp_path) == 0
    folder = tmp_path / "in" / "my-coded-inference"
    check_hashes(folder)
    outcome = folder / "run" / "outcomes.parquet"
    outcome.write_bytes(outcome.read_bytes() + b"x")
    assert main(["board", str(folder), "--out", str(tmp_path / "site")]) == 2
    assert f"{outcome.relative_to(folder)} is not as it was submitted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"examples": 64}, "64 examples"),
        ({"draws": 2}, "2 scoring draws"),
        ({"finished": False}, "not complete: it was stopped before its end"),
        ({"missing": [("pgd-10", "rci")]}, "1 of 13 planned cases lacks outcomes"),
    ],
)
def test_rules_that_a_run_breaks_are_named(make_run, tmp_path, capsys, change, said):
    run = make_run("broken", **change)
    (run / "adversarials").mkdir()
    assert submitted(run, tmp_path) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace('"rci"', '"rcj"'), "it has rci on erm, standard on erm"),
        (ENTRY.replace("0.6", "60.0"), "reported = 60.0"),
        (ENTRY.replace('"https://example.org/code"', '" "'), "code may not be empty"),
        ("name = ", "is no TOML"),
    ],
)
def test_entries_that_say_too_little_are_refused(accepted, tmp_path, capsys, text, said):
    assert submitted(accepted, tmp_path, text) == 2
    assert said in capsys.readouterr().err


def test_without_stored_inputs_nobody_could_verify_it(accepted, tmp_path, capsys):
    (accepted / "adversarials").rmdir()
    assert submitted(accepted, tmp_path) == 2
    assert "--save-adversarials" in capsys.readouterr().err


def test_other_folders_are_refused(tmp_path, capsys):
    assert main(["board", str(tmp_path), "--out", str(tmp_path / "site")]) == 2
    assert "entry.toml" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_dispute_is_shown_with_both_sides_and_changes_no_verdict(make_run, subject, tmp_path, monkeypatch):
    facts = {"name": "a", "sha256": "0" * 64, "arch": "lwta-wrn34-1"}
    run = make_run("disputed", subjects=[subject("a")], changes={"checkpoints": [facts]})
    assert main(["board", str(run), "--out", str(tmp_path / "site")]) == 0
    (entry,) = board_in(tmp_path / "site").entries
    (dispute,) = entry.disputes
    assert dispute.link == "https://github.com/fra31/auto-attack/issues/58"
    page = (tmp_path / "site" / "index.html").read_text()
    for told in (dispute.link, dispute.critics, dispute.authors):
        assert html.escape(told, quote=True).replace("&#x27;", "&#39;") in page
    assert "disputed: fra31/auto-attack#58" in page
    undisputed = {**PUBLISHED, "stochastic-lwta": replace(PUBLISHED["stochastic-lwta"], disputes=())}
    monkeypatch.setattr("robustbench_coded.extras.board.entries.PUBLISHED", undisputed)
    assert main(["board", str(run), "--out", str(tmp_path / "without")]) == 0
    (without,) = board_in(tmp_path / "without").entries
    assert (without.verdict, without.reason, without.disputes) == (entry.verdict, entry.reason, ())


def test_no_entry_is_made_of_a_run_whose_ensemble_is_not_complete(make_run, tmp_path, capsys):
    run = make_run("lost", missing=[("pgd-10", "rci")])
    assert main(["board", str(run), "--out", str(tmp_path / "site")]) == 2
    said = capsys.readouterr().err
    assert "is not complete: 1 of 13 planned cases lacks outcomes; the command that began it" in said
    assert not (tmp_path / "site").exists()
    entry = tmp_path / "entry.toml"
    entry.write_text(ENTRY)
    assert main(["submit", str(run), "--entry", str(entry), "--out", str(tmp_path / "entries")]) == 2
    assert "the run is not complete: 1 of 13 planned cases lacks outcomes" in capsys.readouterr().err
