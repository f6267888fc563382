import dataclasses
import tomllib
from pathlib import Path

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.paper.ablations.report import paper_tables, papers_figure
from robustbench_coded.paper.ablations.studies import (
    PAPERS_SETS,
    STUDIES,
    AblationSettings,
    base_config,
    study_named,
    usual_sets,
)
from robustbench_coded.paper.training.config import CodedRecipe

PAPER = Path(__file__).parents[4] / "shared" / "paper-tables.toml"


@pytest.fixture
def cifar():
    """Settings like the paper's; nothing of it is run."""
    settings = AblationSettings(base_config(arch="preact-resnet18", data="cifar10", schedule="paper"))
    settings.__dict__["block_count"] = 5  # needs the data otherwise
    return settings


def points_of(name, settings):
    return study_named(name).points(settings)


def test_fixed_n_is_n_in_every_epoch(cifar):
    points = points_of("n", cifar)
    assert [point.name for point in points] == ["110", "130", "150", "170", "190"]
    for point in points:
        sizes = {point.config.recipe.n_at(epoch, 350, 128) for epoch in (0, 100, 349)}
        assert sizes == {int(point.name)}


def test_sizes_keep_their_ratio_at_another_batch_size(cifar):
    smaller = dataclasses.replace(cifar, base=dataclasses.replace(cifar.base, batch_size=16))
    assert [point.name for point in points_of("n", smaller)] == ["14", "16", "19", "21", "24"]


@pytest.mark.parametrize("name", STUDIES)
def test_points_differ_from_the_base_in_one_respect(name, cifar):
    points = points_of(name, cifar)
    assert len({point.config.fingerprint() for point in points}) == len(points) > 1
    for point in points:
        changed = {
            field.name
            for field in dataclasses.fields(point.config)
            if getattr(point.config, field.name) != getattr(cifar.base, field.name)
        }
        assert changed <= {"recipe", "dropout"}
        if isinstance(point.config.recipe, CodedRecipe) and name not in ("n", "recipe", "dropout"):
            options = (
                dataclasses.asdict(point.config.recipe).items() - dataclasses.asdict(CodedRecipe()).items()
            )
            assert {option for option, _ in options} <= {name}


def test_block_sets_are_the_papers_where_the_network_has_them():
    assert usual_sets(5) == list(PAPERS_SETS)
    assert usual_sets(3) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert usual_sets(4)[-1] == (0, 1, 2, 3) and usual_sets(6)[-1] == (0, 1, 2, 3, 4, 5)


def test_all_blocks_are_the_run_that_other_studies_have(cifar):
    whole = points_of("blocks", cifar)[-1]
    assert whole.name == "0,1,2,3,4"
    assert whole.config in [point.config for point in points_of("mu", cifar) if point.name == "0.5"]


def test_unknown_studies_and_settings_are_refused(cifar):
    with pytest.raises(InputError, match="no ablation of 'gamma'; choose from recipe, n"):
        study_named("gamma")
    for name, value in (("seeds", 0), ("draws", 0), ("limit", 3), ("eps", 8.0)):
        with pytest.raises(InputError, match=f"--{name} {value:g}"):
            dataclasses.replace(cifar, **{name: value})


@pytest.mark.skipif(not PAPER.exists(), reason="needs the paper's numbers in ../shared")
def test_the_papers_numbers_are_as_printed():
    printed, ours = tomllib.loads(PAPER.read_text()), paper_tables()
    for column, data in enumerate(("cifar10", "cifar100")):
        for row, name in (("erm", "erm"), ("manifold_mixup", "manifold-mixup"), ("coded", "coded")):
            assert ours["table1"][data][name] == printed["table1"][row][column][0]
    assert list(ours["table6"]["accuracy"].items()) == [
        (str(n), a) for n, a in zip(printed["table6"]["n"], printed["table6"]["accuracy"])
    ]
    assert list(ours["table7"]["accuracy"].values()) == printed["table7"]["accuracy"]
    assert list(map(float, ours["table7"]["accuracy"])) == printed["table7"]["mu"]
    for figure in ("accuracy", "loss"):
        assert list(ours["table8"][figure].values()) == printed["table8"][figure]
    sets = [",".join(map(str, blocks)) for blocks in printed["table8"]["blocks"]]
    assert list(ours["table8"]["loss"]) == sets
    for name, (accuracy, loss) in printed["table9"].items():
        assert (ours["table9"]["accuracy"][name], ours["table9"]["loss"][name]) == (accuracy, loss)


@pytest.mark.parametrize("study", ["recipe", "n", "mu", "blocks", "dropout"])
def test_every_row_of_the_papers_tables_has_a_point(cifar, study):
    chosen = study_named(study)
    found = [papers_figure(chosen, point, cifar, "accuracy") for point in points_of(study, cifar)]
    table = paper_tables()[chosen.table.lower().replace(" ", "")]
    printed = table["cifar10"] if study == "recipe" else table["accuracy"]
    wanted = {round(value / 100, 6) for name, value in printed.items() if name != "network"}
    assert wanted == {value for value in found if value is not None}


def test_the_paper_says_nothing_about_other_data_or_another_k(cifar):
    mu = study_named("mu")
    (point,) = [point for point in points_of("mu", cifar) if point.name == "0.5"]
    assert papers_figure(mu, point, cifar, "accuracy") == 0.959
    for changes in ({"data": "digits"}, {"batch_size": 64}):
        other = dataclasses.replace(cifar, base=dataclasses.replace(cifar.base, **changes))
        assert papers_figure(mu, point, other, "accuracy") is None
    copy = dataclasses.replace(cifar, base=dataclasses.replace(cifar.base, data="npz:a/cifar10_train.npz"))
    assert papers_figure(mu, point, copy, "accuracy") == 0.959
