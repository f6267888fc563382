"""A run that goes on with other code of the attacks than it was begun with says so."""

import json

from robustbench_coded.cli.main import main
from robustbench_coded.runs.folder import MANIFEST

SAID = "The code of the attacks has changed since this run was begun."


def test_a_run_that_goes_on_with_other_attacks_says_so_on_the_screen_and_in_its_report(
    digits_erm, tmp_path, capsys
):
    out = tmp_path / "run"
    command = ["eval", "--ckpt", str(digits_erm), "--data", "digits", "--limit", "16", "--attacks", "fgsm"]
    command += ["--eps", "0.1", "--threads", "1", "--out", str(out)]
    assert main(command) == 0
    assert main([*command, "--attacks", "pgd-10"]) == 0
    told = capsys.readouterr()
    assert SAID not in " ".join((told.out + told.err).split())
    assert SAID not in (out / "details.md").read_text()

    manifest = json.loads((out / MANIFEST).read_text())
    assert len({invocation["versions"].pop("attacks") for invocation in manifest["invocations"]}) == 1
    (out / MANIFEST).write_text(json.dumps(manifest))
    assert main([*command, "--attacks", "pgd-20"]) == 0
    assert SAID not in (out / "details.md").read_text(), "it is not known of a run that did not record it"

    manifest = json.loads((out / MANIFEST).read_text())
    manifest["invocations"][0]["versions"]["attacks"] = "0" * 12
    (out / MANIFEST).write_text(json.dumps(manifest))
    capsys.readouterr()
    assert main([*command, "--attacks", "pgd-20", "--attacks", "pgd-10"]) == 0
    told = capsys.readouterr()
    assert SAID in " ".join((told.out + told.err).split())
    assert (out / "details.md").read_text().count(SAID) == 1
