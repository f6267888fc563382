"""Stored perturbed inputs, scored again from the files alone; and those that another tool made."""

import json
import shutil

import numpy as np
import pytest
import torch

from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.extras.verification.verify_file import read_given
from robustbench_coded.runs.folder import ADVERSARIALS
from tests.run_folders import forge, perturbed, replace_perturbed

pytestmark = pytest.mark.long

OPTIONS = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--draws", "3")


@pytest.fixture(scope="module")
def untouched(digits_erm, tmp_path_factory):
    out = tmp_path_factory.mktemp("verify") / "run"
    attacks = "pgd-3,aware-pgd-3,transfer-pgd-3"
    arguments = (
        "eval", "--ckpt", digits_erm, *OPTIONS, "--rci", "N=1.5K", "--inputs", "batch,victim,co-batch",
        "--attacks", attacks, "--eps", "0.2", "--save-adversarials", "--out", out, "--quiet",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 4)
        assert main([str(argument) for argument in arguments]) == 0
    return out


@pytest.fixture
def run(untouched, tmp_path):
    """A copy of the run, to be changed."""
    shutil.copytree(untouched, tmp_path / "run")
    return tmp_path / "run"


def verified(csrobust, *arguments):
    """Exit code and rows of inputs; test_verify_reports.py has those of reports."""
    answer = csrobust("verify", *arguments, "--json")
    return answer.code, [row for row in json.loads(answer.out) if "file" not in row]


def test_every_row_of_an_untouched_run_holds(csrobust, run):
    code, rows = verified(csrobust, run)
    assert code == 0
    assert {row["threat"].removesuffix(" in random batches") for row in rows} == {
        f"{i}/{r}" for i in ("batch", "victim", "co-batch") for r in ("known", "unknown")
    }
    for row in rows:
        assert row["holds"] and row["differing"] == 0 and row["outside"] == 0, row
        assert row["recorded"] == pytest.approx(row["accuracy"])
        assert row["furthest"] == 0 if row["attack"] == "clean" else 0.5 < row["furthest"] <= 1 + 1e-5


def test_new_draws_score_the_same_inputs_and_leave_known_draws_as_they_were(csrobust, untouched):
    _, recorded = verified(csrobust, untouched)
    found = {}
    for words in ("--draws 5", "--seed 1 --draws 5", "--seed 2"):
        code, rows = verified(csrobust, untouched, *words.split())
        assert code == 0
        found[words] = [row["accuracy"] for row in rows]
        for row, before in zip(rows, recorded, strict=True):
            known = row["threat"].endswith(("/known", "in random batches"))
            new = 0 if known or row["defence"] == "standard" else 3
            new = 5 if new and "--draws" in words else new
            assert row["new_draws"] == new and row["outcomes"] == before["outcomes"] * (new or 3) // 3, row
            same = ("inputs", "furthest", "outside", "recorded", *(() if new else ("accuracy", "turned")))
            assert [row[name] for name in same] == [before[name] for name in same]
    now = [row["accuracy"] for row in recorded]
    assert len({tuple(accuracies) for accuracies in (*found.values(), now)}) == 4  # none repeats another
    said = csrobust("verify", untouched, "--seed", "2").out
    assert ": holds (" in said and "% now on 3 new draws; " in said and ": equal (" in said


def stored(run, threat):
    manifest = json.loads((run / "run.json").read_text())
    inputs, randomness = threat.split("/")
    wanted = {"inputs": inputs, "randomness": randomness}
    records = (r for r in manifest["cases"] if r["case"]["threat"] == wanted)
    record = next(r for r in records if r["case"]["attack"].startswith("pgd"))
    return record["units"][0]


def rows_after(csrobust, run, threat, change):
    """What is found, with exit code 1, after the inputs of a unit were changed."""
    unit = stored(run, threat)
    tensors = perturbed(run, unit)
    change(tensors)
    replace_perturbed(run, unit, tensors)
    code, rows = verified(csrobust, run)
    assert code == 1
    return rows


@pytest.mark.parametrize("threat", ["batch/unknown", "victim/unknown"])
def test_an_input_moved_beyond_eps_is_found(csrobust, run, threat):
    def move(tensors):
        tensors["x"][0] = (tensors["x"][0] + 0.3).clamp(max=1)

    assert sum(row["outside"] for row in rows_after(csrobust, run, threat, move)) == 1


def test_a_second_moved_input_beside_a_victim_is_found(csrobust, run):
    def move_another(tensors):
        other = (tensors["slot"][:1] + 1) % 16
        tensors["evaluation"] = torch.cat([tensors["evaluation"], tensors["evaluation"][:1]])
        tensors["slot"] = torch.cat([tensors["slot"], other])
        tensors["x"] = torch.cat([tensors["x"], torch.full_like(tensors["x"][:1], 0.5)])

    assert sum(row["outside"] for row in rows_after(csrobust, run, "victim/unknown", move_another)) == 1


def test_inputs_that_do_not_do_what_was_recorded_are_found(csrobust, run):
    def clean(tensors):
        rows = tensors["batch"][tensors["evaluation"]] * 16 + tensors["slot"]
        tensors["x"], _ = load_data("digits").batch(rows)

    assert any(row["differing"] for row in rows_after(csrobust, run, "batch/unknown", clean))


def test_random_batches_are_scored_again_too(csrobust, digits_erm, tmp_path):
    arguments = ("--rci", "N=1.5K", "--attacks", "transfer-pgd-20", "--eps", "0.3", "--save-adversarials")
    assert csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *arguments, "--out", tmp_path).code == 0
    code, rows = verified(csrobust, tmp_path)
    assert code == 0 and all(row["holds"] for row in rows)
    forge(tmp_path, lambda rows: (rows["purpose"] == "random") & (rows["attack"] != "clean"))
    code, rows = verified(csrobust, tmp_path)
    assert code == 1
    assert [row["threat"] for row in rows if not row["holds"]] == ["batch/unknown in random batches"]


def test_inputs_of_some_of_the_batches_alone_are_found(csrobust, run):
    def cut(tensors):
        first = tensors["evaluation"] == 0
        tensors |= {name: tensors[name][first] for name in ("evaluation", "slot", "x")}
        tensors |= {name: tensors[name][:1] for name in ("batch", "victim", "known")}

    rows = rows_after(csrobust, run, "batch/unknown", cut)
    assert any(row["problem"].endswith("holds the inputs of 16 of 32 answers") for row in rows)


def test_a_truncated_file_is_named(csrobust, run):
    path = run / ADVERSARIALS
    path.write_bytes(path.read_bytes()[:100])
    code, rows = verified(csrobust, run)
    assert code == 1
    assert any(path.name in row["problem"] for row in rows)


def test_a_checkpoint_that_the_run_does_not_have(csrobust, run, digits_erm):
    answer = csrobust("verify", run, "--ckpt", f"other={digits_erm}")
    assert answer.code == 2 and "NAME=PATH for digits-erm" in answer.err


def test_a_run_without_stored_inputs(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    assert csrobust("eval", "--ckpt", digits_erm, *OPTIONS, "--attacks", "fgsm", "--out", run).code == 0
    answer = csrobust("verify", run)
    assert answer.code == 0 and "--save-adversarials" in answer.err and answer.out.count(": holds") == 4
    for name in ("summary.csv", "verdicts.csv", "report.md", "report.html"):
        (run / name).unlink()
    answer = csrobust("verify", run)
    assert answer.code == 2 and "--save-adversarials" in answer.err


PLANTED = """
import torch

class Planted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.zeros(()))

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([self.level + 0 * mean, self.level + mean], 1)
"""


class TestFile:
    @pytest.fixture
    def clean(self):
        return load_data("digits").batch(range(32))[0].permute(0, 2, 3, 1).numpy()

    def score(self, csrobust, digits_erm, path, *options):
        return verified(
            csrobust, "--adversarials", path, "--ckpt", digits_erm, "--data", "digits", "--batch-size", "16",
            "--eps", "0.1", *options,
        )  # fmt: skip

    def test_clean_images_score_their_clean_accuracy(self, csrobust, digits_erm, tmp_path, clean):
        np.savez(tmp_path / "a.npz", x=clean)
        code, rows = self.score(csrobust, digits_erm, tmp_path / "a.npz", "--rci", "N=1.5K")
        assert code == 0
        assert [row["defence"] for row in rows] == ["standard", "rci"]
        assert all(row["accuracy"] > 0.9 and row["furthest"] == 0 for row in rows)

    def test_answers_that_rounding_alone_decides_are_counted(self, csrobust, tmp_path, clean, monkeypatch):
        """Two logits of 2^30 that differ by the mean: in float32 both are 2^30, and the first class wins."""
        (tmp_path / "planted.py").write_text(PLANTED)
        monkeypatch.chdir(tmp_path)
        torch.save({"level": torch.tensor(2.0**30)}, "planted.pt")
        clean[:5] = 0  # no difference in any precision
        np.savez("a.npz", x=clean)
        data = load_data("digits").batch(range(32))[0].permute(0, 2, 3, 1).numpy()
        np.savez("data.npz", x=data, y=np.zeros(32, int))
        options = ("--ckpt", "planted.pt", "--arch", "planted.py:Planted", "--normalize", "none")
        where = ("--adversarials", "a.npz", "--data", "npz:data.npz", "--eps", "1")
        code, (row,) = verified(csrobust, *where, *options)
        assert (code, row["accuracy"], row["outcomes"], row["turned"]) == (0, 1.0, 32, 27)
        assert "27 of 32 answers turn in float64" in csrobust("verify", *where, *options).out

    def test_examples_may_be_named(self, csrobust, digits_erm, tmp_path, clean):
        np.savez(tmp_path / "a.npz", x=clean[[7, 3]], example=[7, 3])
        _, rows = self.score(csrobust, digits_erm, tmp_path / "a.npz")
        assert rows[0]["inputs"] == 2 and rows[0]["furthest"] == 0

    def test_examples_are_numbered_as_in_data_that_repeat_images(self, csrobust, digits_erm, tmp_path, clean):
        x, y = load_data("digits").batch(range(32))
        rows = [0, 0, *range(32)]
        np.savez(tmp_path / "data.npz", x=x[rows], y=y[rows])
        np.savez(tmp_path / "a.npz", x=clean[rows])
        options = ("--adversarials", tmp_path / "a.npz", "--ckpt", digits_erm, "--batch-size", "16")
        code, rows = verified(csrobust, *options, "--data", f"npz:{tmp_path / 'data.npz'}", "--eps", "0.1")
        assert (code, rows[0]["inputs"], rows[0]["outside"], rows[0]["furthest"]) == (0, 32, 0, 0)

    def test_an_image_outside_eps_is_counted(self, csrobust, digits_erm, tmp_path, clean):
        clean[5] = 1 - clean[5]
        np.savez(tmp_path / "a.npz", x=clean)
        code, rows = self.score(csrobust, digits_erm, tmp_path / "a.npz")
        assert code == 1 and rows[0]["outside"] == 1

    def test_a_file_of_autoattack_has_a_row_for_each_of_its_attacks(
        self, csrobust, digits_erm, tmp_path, clean
    ):
        x = torch.from_numpy(clean).permute(0, 3, 1, 2)
        torch.save({"apgd-ce": x, "square": 1 - x}, tmp_path / "aa_individual.pth")
        code, rows = self.score(csrobust, digits_erm, tmp_path / "aa_individual.pth")
        assert [(row["attack"], row["outside"]) for row in rows] == [("apgd-ce", 0), ("square", 32)]
        assert code == 1 and rows[0]["accuracy"] > 0.9 > rows[1]["accuracy"]


SHAPE, MANY = (3, 4, 4), 8
X = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4) / 255
Y = torch.tensor([1, 0])


@pytest.mark.parametrize(
    "stored",
    [
        X,
        (X, Y),
        [X[:1], X[1:]],
        {"x": X.permute(0, 2, 3, 1)},
        {"x_adv": X, "example": torch.tensor([0, 1])},
        {"adv_complete": X},
        {"adv_complete": (X, Y)},
        {"adv_inputs": X, "labels": Y, "preds": Y, "clean_inputs": X},
        {"adv_inputs": (X * 255).round().to(torch.uint8), "labels": Y},
        {"given": (X, Y)},
    ],
    ids=lambda stored: f"{type(stored).__name__}-{'-'.join(stored) if isinstance(stored, dict) else ''}",
)
def test_files_of_torch_are_read_as_other_tools_write_them(tmp_path, stored):
    torch.save(stored, tmp_path / "a.pt")
    (inputs,) = read_given(tmp_path / "a.pt", SHAPE, MANY).values()
    torch.testing.assert_close(inputs.x, X, atol=1e-7, rtol=0)
    assert inputs.examples.tolist() == [0, 1]


def test_arrays_of_numpy_are_read_without_names_too(tmp_path):
    np.save(tmp_path / "a.npy", X.numpy())
    torch.testing.assert_close(read_given(tmp_path / "a.npy", SHAPE, MANY)["given"].x, X)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"weight": torch.zeros(3), "bias": torch.zeros(2)}, r"no array x \(it holds weight, bias\)"),
        ({"x": torch.zeros(2, 3, 5, 5)}, r"holds images \(5, 5, 3\), the data \(4, 4, 3\)"),
        (torch.zeros(9, 3, 4, 4), "outside 0 to 7"),
        (torch.full((2, 3, 4, 4), torch.nan), "NaN"),
        ({"x": X, "example": torch.tensor([1, 1])}, "another example"),
        (torch.nn.Linear(2, 2), "can't be read"),
        ("text", "no array x"),
    ],
)
def test_files_that_hold_something_else_are_refused_in_one_line(tmp_path, stored, said):
    torch.save(stored, tmp_path / "a.pt")
    with pytest.raises(InputError, match=said) as refused:
        read_given(tmp_path / "a.pt", SHAPE, MANY)
    assert "\n" not in str(refused.value)


def test_what_torchattacks_saves_is_read(tmp_path):
    torchattacks = pytest.importorskip("torchattacks")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=1)
    attack = torchattacks.FGSM(model, eps=0.1)
    attack.save(loader, save_path=str(tmp_path / "a.pt"), verbose=False)
    saved = read_given(tmp_path / "a.pt", SHAPE, MANY)["given"].x
    torch.testing.assert_close(saved, attack(X, Y), atol=1e-6, rtol=0)
