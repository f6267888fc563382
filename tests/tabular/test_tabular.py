"""The study on tables and sequences: equal footing, corrected intervals, an answer that follows from them."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from robustbench_coded.cli.main import main
from robustbench_coded.errors import InputError
from robustbench_coded.statistics.intervals import clopper_pearson
from robustbench_coded.studies.over_seeds import Records
from robustbench_coded.tabular.study import Run, answer, comparisons, run_all
from robustbench_coded.tabular.train import SETTINGS, Transformer, network_for, split_of, trained
from robustbench_coded.training.recipes import Coded, Erm


def test_splits_are_stratified_disjoint_and_standardised_by_the_training_rows():
    split = split_of("wine", 3)
    assert (len(split.x), len(split.test_x), split.classes) == (118, 60, 3)
    shares = [torch.bincount(y).double() / len(y) for y in (split.y, split.test_y)]
    assert (shares[0] - shares[1]).abs().max() < 0.02
    standard = (split.x[:, :, 0, 0] - torch.tensor(split.mean)) / torch.tensor(split.deviation)
    torch.testing.assert_close(standard.mean(0), torch.zeros(13), atol=1e-4, rtol=0)
    rows = {tuple(row) for row in split.x.flatten(1).tolist()}
    assert not rows & {tuple(row) for row in split.test_x.flatten(1).tolist()}


def test_training_learns_is_repeatable_and_leaves_the_global_generator_alone():
    split, erm = split_of("wine", 0), SETTINGS[0]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = trained(erm, split, 0, steps=60)
    assert first == trained(erm, split, 0, steps=60) and first.accuracy > 0.8
    assert (torch.get_rng_state() == before).all()


def test_sequences_are_lines_of_the_same_images_and_their_order_counts():
    lines, whole = split_of("digit-lines", 2), split_of("digits", 2)
    assert torch.equal(lines.x, whole.x) and (lines.tokens, whole.tokens) == (8, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = network_for(lines)
        network.embed.position.data.normal_(std=10)
    x = lines.x[:4]
    tokens = x.unflatten(1, (8, 8))
    torch.testing.assert_close(
        network.embed(x)[:, 3] - network.embed.position[3], network.embed.linear(tokens[:, 3, :, 0, 0])
    )
    assert not torch.allclose(network(x), network(tokens.flip(1).flatten(1, 2)), atol=1e-3)
    network.embed.position.data.zero_()
    torch.testing.assert_close(network(x), network(tokens.flip(1).flatten(1, 2)), atol=1e-5, rtol=1e-4)


def test_the_transformer_learns():
    split = split_of("digit-lines", 0)
    assert trained(SETTINGS[0], split, 0, steps=120).accuracy > 0.7
    with pytest.raises(ValueError, match="divide 64 features, got 7"):
        Transformer(64, 7, 10)


def test_coded_training_without_weight_on_its_path_is_erm():
    from robustbench_coded.tabular.train import Setting

    split = split_of("wine", 0)
    erm = trained(Setting("erm", Erm()), split, 0, steps=8)
    assert trained(Setting("coded", Coded(mu=0.0)), split, 0, steps=8).loss == pytest.approx(
        erm.loss, rel=1e-5
    )
    assert trained(Setting("coded", Coded(mu=0.5)), split, 0, steps=8).loss != pytest.approx(
        erm.loss, rel=1e-5
    )


def planted(gain, spread, seeds=10):
    noise = np.random.RandomState(0).normal(size=seeds) * spread
    runs = []
    for seed in range(seeds):
        runs.append(Run("wine", "erm", seed, 1, 0.9, 0.5))
        runs.append(Run("wine", "mixup 1", seed, 1, 0.9, 0.5 + noise[seed]))
        runs.append(Run("wine", "coded mu=0.5", seed, 1, 0.9 + gain + noise[seed], 0.5))
    return runs, noise + gain


def test_intervals_are_corrected_for_overlapping_splits():
    runs, values = planted(0.02, 0.05)
    (coded,) = [one for one in comparisons(runs) if one.setting.startswith("coded")]
    reach = student.ppf(0.975, 9) * values.std(ddof=1) * np.sqrt(1 / 10 + 1 / 2)
    assert (coded.low, coded.high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    (alike,) = [one for one in comparisons(planted(0.02, 0.0)[0]) if one.setting == "mixup 1"]
    assert alike.high == -alike.low == pytest.approx(clopper_pearson(0, 178, 0.025)[1])


@pytest.mark.parametrize(
    ("gain", "said"), [(0.1, "higher in 1"), (-0.1, "lower in 1"), (0.0, "in 1 no difference")]
)
def test_the_answer_follows_from_the_intervals(gain, said):
    runs, _ = planted(gain, 0.01)
    assert said in answer(comparisons(runs))[0]


def test_a_stopped_study_goes_on_and_the_command_reports(tmp_path, capsys):
    folder = tmp_path / "run"
    run_all(folder, ["wine"], seeds=2, steps=4)
    kept = Records(folder / "runs.csv", Run).rows
    assert len(kept) == 2 * len(SETTINGS)
    command = ["tabular", "--sets", "wine", "--seeds", "2", "--steps", "4", "--out", str(folder), "--quiet"]
    stamp = kept[0]
    assert main(command) == 0 and Records(folder / "runs.csv", Run).rows[0] == stamp
    assert "comparisons of coded training" in capsys.readouterr().out
    assert "shortened from 600" in (folder / "report.md").read_text()
    assert main([*command, "--sets", "iris"]) == 2
    assert "iris" in capsys.readouterr().err


def test_one_seed_and_another_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="--seeds 1"):
        run_all(tmp_path, ["wine"], seeds=1)
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not written by this command"):
        run_all(tmp_path, ["wine"], seeds=2)
