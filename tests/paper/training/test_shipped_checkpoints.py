import hashlib
import sys
import tomllib
from pathlib import Path

import pytest

from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.config import read_recipe

sys.path.append(str(Path(__file__).parents[3] / "recipes"))

from make_checkpoints import DIGITS, make_checkpoints

ROOT = Path(__file__).parents[3]
CHECKPOINTS = ROOT / "checkpoints"
MANIFEST = tomllib.loads((CHECKPOINTS / "manifest.toml").read_text())


def test_the_manifest_and_the_folder_name_the_same_files():
    assert set(MANIFEST) == {path.name for path in CHECKPOINTS.glob("*.safetensors")}
    assert {f"{recipe.stem}.safetensors" for recipe in DIGITS} <= set(MANIFEST)


@pytest.mark.parametrize("name", MANIFEST)
def test_shipped_files_are_those_of_the_manifest(name):
    path, entry = CHECKPOINTS / name, MANIFEST[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    metadata = load_checkpoint(path).metadata
    assert metadata["accuracy"] == pytest.approx(entry["accuracy"], abs=6e-5)
    # A recipe that has been changed since the checkpoint was made has another fingerprint.
    assert metadata["fingerprint"] == read_recipe(ROOT / entry["made_from"]).fingerprint()


def test_the_documents_state_the_accuracies_of_the_manifest():
    stated = (ROOT / "docs" / "paper.md").read_text()
    cifar = [entry for entry in MANIFEST.values() if entry["data"] == "cifar10"]
    assert {entry["recipe"] for entry in cifar} == {"erm", "mixup", "manifold-mixup", "coded", "pgd-at"}
    for entry in cifar:
        figures = [f"{100 * entry[name]:.2f}" for name in ("accuracy", "defended_accuracy") if name in entry]
        first = f"`{entry['defence']}`" if "defence" in entry else entry["recipe"]
        assert " | ".join([f"| {first}", *figures, f"`{entry['made_from']}` |"]) in stated


@pytest.mark.parametrize("name", [recipe.stem for recipe in DIGITS])
def test_shipped_digits_checkpoints_have_the_accuracy_they_state(name):
    path = CHECKPOINTS / f"{name}.safetensors"
    assert path.stat().st_size < 200_000
    checkpoint = load_checkpoint(path)
    assert data_for(checkpoint.metadata, 10, 1, None) == "digits"
    x, y = load_data("digits").batch(range(640))
    model = with_normalisation(checkpoint, x, y)
    accuracy = (model(x).argmax(1) == y).float().mean().item()
    assert checkpoint.metadata["accuracy"] == pytest.approx(accuracy, abs=1e-6) and accuracy > 0.97


def test_the_manifest_keeps_the_entries_of_other_files(tmp_path):
    source = tmp_path / "digits-erm.toml"
    source.write_text((ROOT / DIGITS[0]).read_text().replace("epochs = 30", "epochs = 1"))
    other = {"seed": 3, "options": {"blocks": [0, 1], "mu": 0.5, "nodes": 'a "b"'}}
    (tmp_path / "manifest.toml").write_text(
        '["z.safetensors"]\nseed = 3\noptions = { blocks = [0, 1], mu = 0.5, nodes = "a \\"b\\"" }\n'
    )
    for _ in range(2):
        make_checkpoints([source], tmp_path)
    manifest = tomllib.loads((tmp_path / "manifest.toml").read_text())
    assert manifest["z.safetensors"] == other and set(manifest) == {"z.safetensors", "digits-erm.safetensors"}
    assert manifest["digits-erm.safetensors"]["epochs"] == 1
