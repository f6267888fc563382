import tomllib
from pathlib import Path

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.paper.training.config import (
    CodedRecipe,
    milestones,
    one_cycle,
    read_recipe,
    recipe_name,
    settings_of,
)

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "recipes").glob("*.toml"))
PAPER = ROOT.parent / "shared" / "paper-tables.toml"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_file_is_a_run_and_is_named_after_it(path):
    config = read_recipe(path)
    data, _, recipe = path.stem.partition("-")
    assert recipe.startswith(recipe_name(config.recipe))
    assert data in ("digits", "cifar10", "cifar100", "tinyimagenet", "imagenet")


@pytest.mark.skipif(not PAPER.exists(), reason="needs the paper's numbers in ../shared")
def test_cifar_recipes_have_the_papers_settings():
    settings = tomllib.loads(PAPER.read_text())["training"]
    for path in (ROOT / "recipes").glob("cifar*.toml"):
        config = read_recipe(path)
        if config.schedule != "paper":
            continue
        assert config.total_epochs == settings["epochs"] and list(config.milestones) == settings["milestones"]
        assert config.learning_rate == settings["learning_rate"] and config.momentum == settings["momentum"]
        assert config.batch_size == settings["batch_size"]
        match recipe_name(config.recipe):
            case "coded":
                assert config.recipe == CodedRecipe(settings["mu"], settings["n_start"], settings["n_end"])
            case "mixup":
                assert config.recipe.alpha == settings["mixup_alpha"]
            case "manifold-mixup":
                assert config.recipe.alpha == settings["manifold_mixup_alpha"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch = 'a", "not TOML"),
        ("arch = 'resnet20'", "data is missing"),
        ("arch = 'resnet20'\ndata = 'cifar10'\nepoch = 3", "unknown entry 'epoch'; did you mean epochs"),
        ("arch = 'resnet20'\ndata = 'cifar10'\n[recipe]\nmu = 1", r"\[recipe\] needs a name"),
        ("arch = 'resnet20'\ndata = 'cifar10'\n[recipe]\nname = 'coded'\ngamma = 2", "has no option 'gamma'"),
        ("arch = 'resnet20'\ndata = 'cifar10'\nepochs = '30'", r"epochs = '30': expected `int"),
    ],
)
def test_wrong_recipe_files_are_refused(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(tmp_path / "r.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "absent.toml")


def test_settings_replace_what_the_file_says(tmp_path):
    (tmp_path / "r.toml").write_text(
        "arch = 'resnet20'\ndata = 'cifar10'\nseed = 3\n[recipe]\nname = 'mixup'\nalpha = 0.2"
    )
    typed = settings_of(["seed=4", "epochs=2", "schedule=milestones", "milestones=1,3"])
    config = read_recipe(tmp_path / "r.toml", **typed)
    assert (config.seed, config.total_epochs, config.recipe.alpha) == (4, 2, 0.2)
    assert config.schedule == "milestones" and config.milestones == (1, 3)
    assert read_recipe(tmp_path / "r.toml", alpha=0.5).recipe.alpha == 0.5


def test_settings_are_those_of_the_training_or_of_the_recipe():
    typed = settings_of(["arch=digits-cnn", "data=npz:a=b.npz", "blocks=0", "mu=1", "compile=true"])
    config = read_recipe("coded", **typed)
    assert config.data == "npz:a=b.npz" and config.compile is True
    assert config.recipe == CodedRecipe(mu=1.0, blocks=(0,))
    for text, message in (("mu", "not KEY=VALUE"), ("=1", "not KEY=VALUE")):
        with pytest.raises(InputError, match=message):
            settings_of([text])
    for wrong, message in (
        ({"epoch": 3}, "unknown entry 'epoch'; did you mean epochs"),
        ({"alpha": 1}, "unknown entry 'alpha'"),  # an option of mixup
        ({"blocks": "0+x"}, "blocks = '0.x'"),
    ):
        with pytest.raises(InputError, match=message):
            read_recipe("coded", arch="digits-cnn", data="digits", **wrong)
    with pytest.raises(InputError, match="arch is missing"):
        read_recipe("erm", data="digits")


def test_one_cycle_rises_for_three_tenths_and_falls_to_nothing():
    rates = [one_cycle(i / 1000, 0.4) for i in range(1001)]
    assert (
        rates[0] == 0 and rates[1000] == pytest.approx(0) and max(rates) == rates[300] == pytest.approx(0.4)
    )
    assert rates[:301] == sorted(rates[:301]) and rates[300:] == sorted(rates[300:], reverse=True)
    assert rates[150] == pytest.approx(0.2) and rates[650] == pytest.approx(0.2)


def test_paper_schedule_divides_by_ten_at_100_and_250():
    rates = [milestones(epoch, (100, 250), 0.1) for epoch in range(350)]
    assert rates == pytest.approx([0.1] * 100 + [0.01] * 150 + [0.001] * 100)
