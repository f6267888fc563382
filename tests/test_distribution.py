"""What strangers install: the wheel and the source distribution, and the guard of the package ``attacks``."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import types
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

from robustbench_coded import __version__
from robustbench_coded.cli.main import main
from robustbench_coded.installation import require_own_attacks

ROOT = Path(__file__).parents[1]
CHECKPOINTS = sorted((ROOT / "checkpoints").iterdir())


def in_folder(folder: Path, build, out: Path) -> Path:
    """What a hook of the build backend makes of the project in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return out / build(str(out))
    finally:
        os.chdir(before)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return in_folder(ROOT, build_wheel, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_both_packages_the_checkpoints_and_nothing_else(wheel):
    sources = {
        str(path.relative_to(ROOT))
        for package in ("robustbench_coded", "attacks")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"robustbench_coded/py.typed", "attacks/py.typed"} <= sources
    shipped = {f"robustbench_coded/shipped/{path.name}" for path in CHECKPOINTS}
    assert {name for name in names(wheel) if ".dist-info/" not in name} == sources | shipped
    with zipfile.ZipFile(wheel) as archive:
        for path in CHECKPOINTS:
            assert archive.read(f"robustbench_coded/shipped/{path.name}") == path.read_bytes()


def test_the_metadata_say_who_what_and_under_which_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(archive.read(entry).decode())
    assert (facts["Name"], facts["Version"]) == ("csrobust", __version__)
    assert (facts["Author"], facts["License-Expression"]) == ("The csrobust developers", "MIT")
    assert set(facts.get_all("Provides-Extra")) == {"peers", "ray", "timm", "fid"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(wheel))


def test_the_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    with tarfile.open(in_folder(ROOT, build_sdist, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / f"csrobust-{__version__}"
    assert not (folder / "reports").exists()
    assert names(in_folder(folder, build_wheel, tmp_path)) == names(wheel)


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed():
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    tested = {line for line in lines if not line.startswith("#")}
    oldest = {line.partition(",")[0].replace(">=", "==") for line in allowed}
    assert oldest == {re.sub(r"(\.0)+$", "", line) for line in tested}


def test_what_make_install_brings_runs_the_third_party_attacks_without_their_pins():
    text = (ROOT / "Makefile").read_text()
    assert (
        "--no-deps torchattacks pyautoattack" in text
        and "requests" not in (ROOT / "constraints.txt").read_text()
    )
    hidden = "import sys; sys.modules['requests'] = sys.modules['tqdm'] = None\n"
    run = (
        "import torch, torchattacks\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))\n"
        "x, y = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])\n"
        "print(*torchattacks.PGD(net, eps=0.1, alpha=0.1, steps=1)(x, y).shape)"
    )
    answer = subprocess.run([sys.executable, "-c", hidden + run], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["3", "1", "2", "2"]


def test_checkpoints_are_found_in_an_unpacked_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    asked = "from robustbench_coded.models import shipped as s; print(s.__file__, *s.shipped().values())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    told = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(told) == len(CHECKPOINTS)  # the module itself, and all but the manifest
    assert all(Path(line).is_relative_to(tmp_path / "installed") for line in told)


def test_a_stranger_named_attacks_is_told_apart_and_never_run(monkeypatch, tmp_path, capsys):
    require_own_attacks()
    stranger = tmp_path / "attacks"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("raise AssertionError('it ran')\n")
    monkeypatch.delitem(sys.modules, "attacks", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["list", "data"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"csrobust: another package named 'attacks' hides csrobust's own: {stranger}; rename"
    )
    assert said.count("\n") == 1


def test_a_module_of_that_name_in_memory_is_no_package_of_ours(monkeypatch):
    monkeypatch.setitem(sys.modules, "attacks", types.ModuleType("attacks"))
    with pytest.raises(ImportError, match="a module without a file; rename that one"):
        require_own_attacks()


def test_a_missing_package_is_said_to_be_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "attacks", raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ImportError, match=r"'attacks' is missing from .*; install csrobust again"):
        require_own_attacks()
