import hashlib
import tomllib
from pathlib import Path

import pytest
import torch

from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.models.loading import load_checkpoint, with_normalisation
from robustbench_coded.training import make_digits
from robustbench_coded.training.recipe_file import read_recipe

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
MANIFEST = tomllib.loads((CHECKPOINTS / "manifest.toml").read_text())


def test_the_manifest_and_the_folder_name_the_same_files():
    assert set(MANIFEST) == {path.name for path in CHECKPOINTS.glob("*.safetensors")}
    assert {f"digits-{name}.safetensors" for name in make_digits.SHIPPED} <= set(MANIFEST)


@pytest.mark.parametrize("name", [name for name in MANIFEST if name.startswith("digits")])
def test_shipped_digits_checkpoints_are_what_the_manifest_says(name):
    path, entry = CHECKPOINTS / name, MANIFEST[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert path.stat().st_size < 200_000
    checkpoint = load_checkpoint(path)
    assert data_for(checkpoint.metadata, 10, 1, None) == "digits"
    x, y = load_data("digits").batch(range(640))
    model, _ = with_normalisation(checkpoint, x, y)
    accuracy = (model(x).argmax(1) == y).float().mean().item()
    assert entry["accuracy"] == pytest.approx(accuracy, abs=6e-5) and accuracy > 0.97
    recipe = read_recipe(CHECKPOINTS.parent / entry["made_from"])
    assert (recipe.total_epochs, recipe.seed, recipe.arch) == (entry["epochs"], entry["seed"], entry["arch"])


def test_the_command_makes_the_same_files_again(tmp_path, monkeypatch):
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for name in make_digits.SHIPPED:
        text = (CHECKPOINTS.parent / "recipes" / f"digits-{name}.toml").read_text()
        (recipes / f"digits-{name}.toml").write_text(text.replace("epochs = 30", "epochs = 1"))
    monkeypatch.chdir(tmp_path)
    contents = []
    for seed, out in enumerate(("one", "two")):
        torch.manual_seed(seed)
        make_digits.make_digits(out=tmp_path / out)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        *(f"digits-{name}.safetensors" for name in make_digits.SHIPPED),
        "manifest.toml",
    }
    manifest = tomllib.loads((tmp_path / "one" / "manifest.toml").read_text())
    assert manifest["digits-coded.safetensors"]["options"]["mu"] == 0.5
