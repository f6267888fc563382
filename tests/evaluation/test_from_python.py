"""``robustbench_coded.evaluate`` with models, tensors and DataLoaders that a program has at hand."""

import subprocess
import sys
import threading
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import robustbench_coded
from robustbench_coded import InputError, evaluate, load_run
from robustbench_coded.evaluation.session.from_python import _options
from tests.evaluation.conftest import SMALL as FEW
from tests.evaluation.conftest import RowMean, labelled

pytestmark = pytest.mark.long

DRAWS_FIGURES = True

SMALL = {**FEW, "attacks": "fgsm,pgd-2"}


class Jitter:
    """Adds noise: a draw is its seed."""

    name, randomised, batch_dependent = "jitter", True, False

    def __init__(self, base):
        self.base = base

    def sample(self, generator, k):
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x, draw):
        return self.base(x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(draw)))


class Unbuildable:
    """Needs more than a model."""

    def __init__(self, model, sigma):
        self.base, self.sigma = model, sigma


def locked():
    """A network with something that cannot be copied."""
    model = RowMean()
    model.lock = threading.Lock()
    return model


def test_a_network_that_cannot_be_copied_is_asked_itself(tmp_path):
    runs = [
        evaluate({"rows": made()}, labelled(), out=tmp_path / made.__name__, **SMALL)
        for made in (locked, RowMean)
    ]
    assert runs[0].summary.accuracy.tolist() == runs[1].summary.accuracy.tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "run"
    return evaluate({"rows": RowMean()}, labelled(), defences=["rci:N=12", Jitter], out=out, **SMALL)


def test_the_run_is_that_of_the_folder_and_its_summary_a_frame(run):
    assert isinstance(run.summary, pd.DataFrame)
    pd.testing.assert_frame_equal(run.summary, load_run(run.path).summary)
    assert set(run.summary.defence) == {"standard", "rci", "jitter"}
    standard = run.summary[run.summary.defence == "standard"].set_index("attack")
    assert standard.accuracy["clean"] == 1
    assert standard.accuracy["fgsm"] == 0
    assert (run.path / "report.html").is_file()


def test_a_run_evaluates_the_same_things_again_with_other_options(run, tmp_path):
    again = run.again(limit=4, attacks="fgsm", out=tmp_path / "again")
    assert "--" not in str(again)  # Python's words
    assert again.path == tmp_path / "again" and again.manifest.data.examples == 4
    assert set(again.summary.defence) == {"standard", "rci", "jitter"}
    assert "pgd-2" not in set(again.summary.attack) and "pgd-2" in set(run.summary.attack)
    more = again.again(
        attacks="pgd-2"
    )  # into the folder of the run that it is asked of, and seeded as that one
    assert more.path == again.path and {"fgsm", "pgd-2"} <= set(more.summary.attack)
    assert more.manifest.identity.seed == run.manifest.identity.seed


class Answer:
    """As networks of Hugging Face answer."""

    def __init__(self, logits):
        self.logits = logits


class Answering(RowMean):
    def forward(self, x):
        return Answer(super().forward(x))


class Rounding:
    """Built around the network as its user has it."""

    name, randomised, batch_dependent = "rounding", False, False

    def __init__(self, network):
        self.base = network

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.base(x.round(decimals=1)).logits


class Smoothed(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x + 0.01 * torch.randn_like(x)).logits


def test_a_class_builds_its_defence_around_the_users_own_network(tmp_path):
    given = Answering().train()
    run = evaluate({"rows": given}, labelled(), defences=[Rounding, Smoothed], out=tmp_path / "run", **SMALL)
    bases = {j.case.subject.defence: j.verdict.gain for j in run.judgements}
    assert bases["rounding"] is not None and bases["Smoothed"] is not None
    assert given.training


def test_a_stream_is_read_once_and_evaluated_again(tmp_path):
    x, y = labelled()
    stream = ((x[i : i + 8], y[i : i + 8]) for i in range(0, len(x), 8))
    run = evaluate(RowMean(), stream, out=tmp_path / "run", **SMALL | {"attacks": "fgsm"})
    again = run.again(attacks="pgd-2")
    assert {"fgsm", "pgd-2"} <= set(again.summary.attack)
    assert again.manifest.data.sha256 == run.manifest.data.sha256


def test_a_notebook_shows_verdicts_with_their_reasons_accuracies_and_notes(run):
    shown = run._repr_html_()
    assert shown.count("<tr") == len(run.summary) + 1 + len(run.verdicts) + 1
    assert all(escape(text) in shown for text in (*run.verdicts.reason, *run.manifest.notes))
    fgsm = run.summary[(run.summary.defence == "standard") & (run.summary.attack == "fgsm")].iloc[0]
    assert f"<td>0.0% [0.0%, {fgsm.ci_high:.1%}]</td>" in shown
    assert repr(run) == f"Run({str(run.path)!r})"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"models": None}, "no model given"),
        ({"models": {"a": len}}, r"a: expected logits \[16, classes\], got int"),
        ({"models": {"a": RowMean}}, "a: expected a torch.nn.Module, .* got the class RowMean"),
        ({"defences": {"8/255": Jitter}}, "defences: '8/255' names"),
        ({"defences": 3}, "defences: .* got int"),
        ({"defences": {"mine": Unbuildable}}, r"does not build a defence around the model \(TypeError"),
        ({"rci": "N=190"}, "there is no option 'rci'; write defences='rci:N=190'"),
        ({"defence": "resize-pad"}, "there is no option 'defence'; write defences='resize-pad'"),
        ({"zzz": 1}, "there is no option 'zzz'; choose from arch, normalize"),
        ({"data": Path("mine.npz")}, "unknown data 'mine.npz'; known: .*, npz:FILE"),
        ({"models": lambda x: RowMean()(x[:16].reshape(16, 1, 8, 8))}, r"fails on images \[2, 1, 8, 8\]: "),
        ({"models": LogisticRegression()}, "expected a torch.nn.Module, .* got LogisticRegression"),
        ({"attacks": "pgd-ten"}, "^attacks: "),
        ({"models": torch.nn.Flatten}, "got the class Flatten; give what maps pixels to logits"),
        ({"models": torch.nn.Linear(2, 2).state_dict()}, "weight: expected a torch.nn.Module, .* got Tensor"),
        ({"models": "nope.pt"}, "nope.pt: no such file"),
        (
            {"data": torch.zeros(4, 1, 8, 8)},
            r"expected a pair \(x, y\), a data set or a DataLoader, got Tensor",
        ),
        ({"data": labelled()[::-1]}, r"expected images \[n, C, H, W\]"),
        ({"data": None}, r"expected a pair \(x, y\), .* got NoneType"),
        ({"defences": 3}, "^defences: expected one or a list of them, got int$"),
        ({"defences": {"a": 3}}, "^defence a: expected a defence, got int, which lacks name"),
        ({"defences": "nois:sigma=1"}, "did you mean noise?"),
        ({"out": 3}, "^out 3 is not a folder's path$"),
        ({"time": "30"}, "^time '30' is not a time; write 90s, 30m or 2h$"),
        ({"eps": 0.1, "epsilon": 0.1}, "^epsilon and eps are the same option; give one$"),
        ({"batchsize": 8}, "^batchsize and batch_size are the same option; give one$"),
        ({"n_examples": 8}, "^there is no option 'n_examples'; did you mean limit?"),
        ({"attacks": lambda x: x}, r"lambda does not take \(model, x, y, eps\)"),
        ({"device": "tpu"}, "^device 'tpu' is not known; write cpu, cuda"),
        (
            {"device": "xpu:7", "data": iter(int, 1)},
            "^device 'xpu:7': this machine has",
        ),
        ({"eps": 1e-40}, "^eps 1e-40 is too small to be told from 0"),
        ({"data": "digits", "models": lambda x: torch.zeros(len(x), 12)}, "digits: it has 10 classes, and"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        evaluate(**{"models": RowMean(), "data": labelled(), **SMALL, **given})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_nobody_asked_for_is_a_temporary_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    options = {name: value for name, value in SMALL.items() if name != "eps"} | {"attacks": "clean,fgsm"}
    run = evaluate(RowMean(), labelled(), **options, epsilon=SMALL.get("eps", 0.1))
    assert run.path.parent == tmp_path / "temporary" and (run.path / "report.html").exists()
    assert not list((tmp_path / "here").iterdir())
    assert "fgsm" in set(run.summary.attack)
    assert "fgsm | eps" in " ".join(capsys.readouterr().err.split())
    axes = run.plot()
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "Standard inference"
    assert run.plot(axes) is axes


def test_everything_that_is_named_can_be_imported_and_nothing_else():
    for name in robustbench_coded.__all__:
        assert getattr(robustbench_coded, name) is not None
        assert name in dir(robustbench_coded)
    with pytest.raises(AttributeError, match="no attribute 'evaluated'"):
        _ = robustbench_coded.evaluated


def test_the_package_alone_imports_neither_torch_nor_pandas():
    said = "import sys, robustbench_coded; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", said], capture_output=True, check=True, text=True).stdout
    assert out.strip() == "set()"


@pytest.mark.parametrize("eps", ["0.1", ["0.1"], "1/10", np.float32(0.1), torch.tensor(0.1), 0.1])
def test_a_radius_is_a_number_or_text(eps):
    (size,) = _options({"eps": eps})["eps"]
    assert type(size) is float and size == pytest.approx(0.1)


def test_numbers_of_numpy_are_numbers_and_devices_names():
    options = _options(
        {"limit": np.int64(8), "batch_size": np.array([4, 8]), "eps": [np.float64(0.5), "1/2"]}
    )
    assert options == {"limit": 8, "batch_size": (4, 8), "eps": (0.5, 0.5)}
    assert type(options["limit"]) is int
