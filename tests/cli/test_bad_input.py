"""Wrong input: one line on standard error that says what, where and how to mend it, and exit code 2."""

import json
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from robustbench_coded.evaluation.setup import probing

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm", "--threads", "1")


def refused(answer, *words):
    assert answer.code == 2, answer.err
    assert len(answer.err.strip().splitlines()) == 1, answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


@pytest.fixture
def broken(tmp_path, digits_erm):
    """Makes checkpoints that are wrong in one way each."""
    folder = tmp_path / "broken"
    folder.mkdir()
    weights = load_file(digits_erm)

    def make(kind):
        path = folder / f"{kind}.safetensors"
        if kind == "missing":
            return path
        if kind == "empty":
            path.write_bytes(b"")
        elif kind == "truncated":
            path.write_bytes(digits_erm.read_bytes()[:2000])
        elif kind == "text":
            path.write_text("hello, I am not a checkpoint\n" * 10)
        elif kind == "nan":
            name = next(n for n, t in weights.items() if t.is_floating_point())
            save_file({**weights, name: torch.full_like(weights[name], float("nan"))}, path)
        elif kind == "infinite":
            name = next(n for n, t in weights.items() if t.is_floating_point())
            save_file({**weights, name: torch.full_like(weights[name], float("inf"))}, path)
        elif kind == "unknown-architecture":
            save_file({"first.weight": torch.zeros(3, 3), "second.bias": torch.zeros(3)}, path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "module":
            torch.save(nn.Linear(64, 10), path)
        elif kind == "TorchScript":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("model/constants.pkl", b"\x80\x02).")
                archive.writestr("model/code/__torch__.py", "class Module: ...")
        elif kind == "page":
            path.write_text("<!DOCTYPE html><html>")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "header":
            path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
        else:
            raise AssertionError(kind)
        return path

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", ["missing.safetensors"]),
        ("empty", ["empty.safetensors", "empty"]),
        ("truncated", ["truncated.safetensors"]),
        ("text", ["text.safetensors"]),
        ("nan", ["nan.safetensors", "NaN"]),
        ("infinite", ["infinite.safetensors", "infinite"]),
        ("unknown-architecture", ["unknown-architecture.safetensors"]),
        ("folder", ["folder.safetensors"]),
        ("module", ["module.safetensors", "never loaded", "state_dict()"]),
        ("TorchScript", ["TorchScript.safetensors", "not loaded", "torch.jit.load"]),
        ("page", ["page.safetensors", "a web page"]),
        ("pipe", ["pipe.safetensors", "not a file"]),
        ("header", ["header.safetensors", str(2**62)]),
    ],
)
def test_a_checkpoint_that_is_none(csrobust, broken, tmp_path, kind, words):
    path = broken(kind)
    refused(csrobust("eval", "--ckpt", path, *SMALL, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_pickle_with_code_is_never_run(csrobust, tmp_path):
    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    path = tmp_path / "code.pt"
    with path.open("wb") as file:
        pickle.dump({"state_dict": Planted()}, file)
    refused(csrobust("eval", "--ckpt", path, *SMALL), "code.pt")
    torch.save({"state_dict": Planted()}, path)
    refused(csrobust("eval", "--ckpt", path, *SMALL), "code.pt")
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "0"], ["--limit 0"]),
        (["--limit", "641"], ["641", "640"]),
        (["--limit", "x"], ["--limit"]),
        (["--rci", "N="], ["N="]),
        (["--rci", "N=0K"], ["N=0K"]),
        (["--rci", "N=3"], ["N=3"]),
        (["--rci", "M=3"], ["M"]),
        (["--rci", "N=16", "--batch-size", "3"], ["3"]),
        (["--coded", "N=two"], ["N=two"]),
        (["--batch-size", "0"], ["--batch-size 0"]),
        (["--batch-size", "eight"], ["eight"]),
        (["--attacks", "pgb-10"], ["pgb-10", "pgd-10"]),
        (["--attacks", "pgd"], ["pgd"]),
        (["--attacks", "pgd-10@-1"], ["pgd-10@-1"]),
        (["--data", "digitz"], ["digitz", "digits"]),
        (["--data", "npz:nowhere.npz"], ["nowhere.npz"]),
        (["--data", "folder:nowhere"], ["nowhere"]),
        (["--device", "abacus"], ["abacus"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--eps", "-0.1"], ["-0.1"]),
        (["--eps", "8"], ["8/255"]),
        (["--eps", "a"], ["--eps"]),
        (["--eps", "1/0"], ["1/0"]),
        (["--eps-space", "feet"], ["feet", "pixel"]),
        (["--norm", "l7"], ["l7", "linf"]),
        (["--inputs", "everything"], ["everything", "victim"]),
        (["--last-batch", "eat"], ["eat", "pad"]),
        (["--draws", "0"], ["--draws 0"]),
        (["--selection-draws", "0"], ["--selection-draws 0"]),
        (["--draws", "99999999"], ["--draws 99999999", "10,000"]),
        (["--batch-size", "99999"], ["--batch-size 99999", "16,384"]),
        (["--attacks", "pgd-99999999999"], ["pgd-99999999999", "1,000,000"]),
        (["--normalize", "mean"], ["mean"]),
        (["--arch", "resnet21"], ["resnet21", "resnet20"]),
        (["--arch", "no.such.module:f"], ["no.such.module"]),
        (["--defence", "no.such.module:build"], ["no.such.module"]),
        (["--defence", "rcj"], ["rcj"]),
        (["--no-standard"], ["--no-standard"]),
        (["--claim", "abc"], ["abc"]),
        (["--time", "30"], ["--time", "30m"]),
        (["--time", "-5m"], ["--time", "-5m"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_options(csrobust, digits_erm, tmp_path, options, words):
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "run", *options)
    refused(answer, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rci", "N=99999999"], ["N=99999999", "65536"]),
        (["--rci", "N=65K"], ["N=65K", "65536"]),
        (["--rci", "N=nan"], ["N=nan"]),
        (["--rci", "N=8,N=9"], ["N", "twice"]),
        (["--rci", "N=8,average=0"], ["average=0"]),
        (["--defence", "noise:sigma=-1"], ["sigma=-1"]),
        (["--defence", "../noise:build"], ["../noise:build"]),
        (["--arch", "os:getcwd"], ["os:getcwd", "str"]),
        (["--ckpt", "=x.pt"], ["'=x.pt'", "NAME=PATH"]),
        (["--limit", "9" * 20], ["9" * 20, "640"]),
        (["--batch-size", "8,8,-1"], ["-1"]),
        (["--attacks", "pgd-0"], ["pgd-0"]),
        (["--attacks", "eot0-pgd-3"], ["eot0-pgd-3"]),
        (["--attacks", "pgd-10@nan"], ["pgd-10@nan"]),
        (["--attacks", "torchattacks:Nope"], ["'Nope'", "torchattacks"]),
        (["--eps", "nan"], ["'nan'", "8/255"]),
        (["--eps", ""], ["''", "8/255"]),
        (["--claim", "nan"], ["nan"]),
        (["--claim", "2"], ["--claim 2", "72%"]),
        (["--margin", "-1"], ["--margin -1", "0 or more"]),
        (["--claim-attack", "pgd-10"], ["--claim-attack", "--claim 72%"]),
        (
            ["--claim", "0.5", "--claim-attack", "pdg-10"],
            ["--claim-attack", "did you mean pgd-10"],
        ),
        (["--claim", "best"], ["--claim best is not an accuracy", "0.72 or 72%"]),
        (["--claim-threat", "batch/known"], ["--claim-threat", "--claim 72%"]),
        (["--claim", "0.5", "--claim-threat", "batch"], ["--claim-threat batch", "batch/unknown"]),
        (["--claim", "0.5", "--claim-threat", "collateral-4/unknown"], ["collateral-4", "batch/unknown"]),
        (
            ["--claim", "0.5", "--inputs", "collateral"],
            ["needs --claim-threat", "--inputs collateral"],
        ),
        (["--claim", "0.5", "--claim-eps", "0.1", "--eps", "0.3"], ["--claim-eps 0.1", "--eps 0.3"]),
        (["--claim", "0.5", "--claim-eps", "0.1"], ["--claim-eps 0.1", "--eps 0.3"]),
        (["--normalize", "0.5/0"], ["0.5/0", "positive"]),
        (["--victims", "-3"], ["--victims -3"]),
        (["--budget", "0"], ["--budget 0"]),
        (["--workers", "0"], ["--workers 0"]),
        (["--workers", "100000"], ["--workers 100000", "1,024"]),
        (["--threads", "1000000"], ["--threads 1000000", "1,024"]),
        (["--seed", "-1"], ["--seed -1", "0 or more"]),
        (["--attacks", "fgsm,,"], ["'fgsm,fgsm,,'", "empty name"]),
        (["--threads", "-1"], ["--threads -1"]),
        (["--unit-timeout", "nan"], ["--unit-timeout nan"]),
        (["--engine", "spark"], ["'spark'", "ray"]),
        (["--address", "here:6379"], ["here:6379", "--engine ray"]),
        (["--attack-precision", "float7"], ["'float7'", "bfloat16"]),
        (["--data", "npz:"], ["npz:FILE"]),
        (["--out", "/proc/run"], ["/proc/run"]),
    ],
)
def test_options_out_of_range(csrobust, digits_erm, tmp_path, options, words):
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "run", *options)
    refused(answer, *words)
    assert not (tmp_path / "run").exists()


DEFENCES = """
import sys
import time

import torch


class Answers:
    name = "hostile"
    randomised = batch_dependent = False

    def __init__(self, model):
        self.base = model

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.answer(self.base(x))


def answering(answer):
    def build(model):
        defence = Answers(model)
        defence.answer = answer
        return defence

    return build


def raise_error(logits):
    raise ValueError("I would\\nrather not")


extra_axis = answering(lambda logits: logits[:, None])
fewer_rows = answering(lambda logits: logits[:-1])
fewer_classes = answering(lambda logits: logits[:, :5])
one_class = answering(lambda logits: logits[:, :1])
labels = answering(lambda logits: logits.argmax(1))
nan = answering(lambda logits: logits * float("nan"))
infinite = answering(lambda logits: logits / 0)
text = answering(lambda logits: "cat")
nothing = answering(lambda logits: None)
several = answering(lambda logits: (logits, logits))
complex_numbers = answering(lambda logits: logits * 1j)
detached = answering(lambda logits: logits.detach())
secretly_random = answering(lambda logits: logits + torch.rand_like(logits))
raising = answering(raise_error)
leaving = answering(lambda logits: sys.exit(0))
out_of_memory = answering(lambda logits: logits.new_empty(2**60))
hanging = answering(lambda logits: time.sleep(1000))


class NoDraw(Answers):
    def sample(self, generator, k):
        raise RuntimeError("no dice")


class OtherwiseInGroups(Answers):
    answer = staticmethod(lambda logits: logits)

    def logits_grouped(self, x, draws):
        return torch.stack([2 * self.base(batch) for batch in x])


class WithoutName(Answers):
    name = None


class NamedForTheTerminal(Answers):
    name = "../x\\n\\x1b[31m"


class Dictionary(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return {"loss": self.model(x).sum()}


class BaseOfOtherImages(Answers):
    answer = staticmethod(lambda logits: logits)

    def __init__(self, model):
        self.net, self.base = model, torch.nn.Linear(3, 3)

    def logits(self, x, draw):
        return self.net(x)


class BaseOfOtherClasses(BaseOfOtherImages):
    def __init__(self, model):
        self.net, self.base = model, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


class BaseWithoutGradient(BaseOfOtherImages):
    def __init__(self, model):
        class Cut(torch.nn.Module):
            def forward(self, x):
                return model(x.detach())

        self.net, self.base = model, Cut()


class BaseOfCleanInputs(BaseOfOtherImages):
    def __init__(self, model):
        class Careful(torch.nn.Module):
            def forward(self, x):
                assert (16 * x == (16 * x).round()).all(), "no such pixel"
                return model(x)

        self.net, self.base = model, Careful()


class ChangesTheNetwork(Answers):
    answer = staticmethod(lambda logits: logits)

    def __init__(self, model):
        self.base = model
        with torch.no_grad():
            next(model.parameters()).mul_(-1)


class ChangesTheNetworkLater(BaseOfOtherImages):
    # What it answers itself stays the same.
    def __init__(self, model):
        import copy

        self.net, self.given, self.base, self.calls = copy.deepcopy(model), model, None, 0

    def logits(self, x, draw):
        self.calls += 1
        if self.calls == 20:
            with torch.no_grad():
                next(self.given.parameters()).mul_(-1)
        return self.net(x)


def builds_nothing(model):
    return None


def leaves_at_once(model):
    sys.exit(0)


def needs_more(model, strength):
    return Answers(model)
"""


@pytest.fixture
def defences(tmp_path, monkeypatch):
    """Defences that misbehave, in a module of the current folder."""
    (tmp_path / "hostile.py").write_text(DEFENCES)
    yield
    sys.modules.pop("hostile", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("extra_axis", ["(16, 1, 10)", "(16, classes)"]),
        ("fewer_rows", ["(15, 10)", "(16, classes)"]),
        ("fewer_classes", ["5 logits", "10 classes"]),
        ("one_class", ["1 logits", "10 classes"]),
        ("labels", ["int64"]),
        ("nan", ["NaN or infinite", "100%"]),
        ("infinite", ["NaN or infinite"]),
        ("text", ["str", "not with a tensor"]),
        ("nothing", ["NoneType", "not with a tensor"]),
        ("several", ["hostile returns a tuple", "say which are the logits"]),
        ("complex_numbers", ["complex64"]),
        ("secretly_random", ["same draw"]),
        ("raising", ["ValueError", "rather not"]),
        ("leaving", ["SystemExit"]),
        ("out_of_memory", ["RuntimeError"]),
        ("hanging", ["hangs", "0.3 s"]),
        ("NoDraw", ["no dice"]),
        ("OtherwiseInGroups", ["logits_grouped"]),
        ("WithoutName", ["'name' is NoneType"]),
        ("NamedForTheTerminal", ["no table can show"]),
        ("Dictionary", ["hostile.Dictionary returns a dict ('loss': [])", "0 tensors have the shape"]),
        ("BaseOfOtherImages", ["names a base model that fails on a batch of shape"]),
        (
            "BaseOfCleanInputs",
            ["base model that fails on a perturbed batch", "no such pixel", "line"],
        ),
        ("BaseOfOtherClasses", ["names a base model", "(16, 3), not (16, 10)"]),
        ("BaseWithoutGradient", ["names a base model whose answers have no gradient", "let base be None"]),
        ("ChangesTheNetwork", ["changes the network that it is given", "copy.deepcopy(model)"]),
        ("ChangesTheNetworkLater", ["changes the network that it is given", "copy.deepcopy(model)"]),
        ("builds_nothing", ["NoneType", "sample(generator, k)"]),
        ("leaves_at_once", ["SystemExit"]),
        ("needs_more", ["TypeError", "strength"]),
        ("absent", ["no function absent"]),
    ],
)
def test_defences(csrobust, digits_erm, tmp_path, defences, monkeypatch, name, words):
    if name == "hanging":  # the others have all the time that a busy machine may need
        monkeypatch.setattr(probing, "PROBE_SECONDS", 0.3)
    chosen = ("--defence", f"hostile:{name}", "--out", tmp_path / "run")
    refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, *chosen), *words)
    assert not (tmp_path / "run").exists()


def test_a_probe_says_what_is_wrong_and_not_what_fails_for_it(csrobust, digits_erm, defences):
    probe = ("probe", "--ckpt", digits_erm, "--data", "digits", "--threads", "1")
    refused(csrobust(*probe, "--defence", "hostile:fewer_rows"), "(15, 10)", "(16, classes)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], ["--ckpt"]),
        (["plan", "--ckpt", "CKPT", "--attacks", "pgb-10"], ["pgb-10", "pgd-10"]),
        (["probe"], ["--ckpt"]),
        (["probe", "--ckpt", "CKPT", "--defence", "rcj"], ["rcj", "rci"]),
        (["sweep", "--ckpt", "CKPT", "--batch-size", "8"], ["--rci N=1.5K"]),
        (["curve", "--ckpt", "CKPT", "--eps", "x"], ["'x'", "8/255"]),
        (["screen"], ["--ckpt"]),
        (["screen", "--ckpt", "nothing.pt", "--rci", "N=8"], ["nothing.pt"]),
        (["train", "--recipe", "nothing.toml"], ["--out"]),
        (["train", "--recipe", "nothing.toml", "--out", "x.safetensors"], ["nothing.toml"]),
        (["verify"], ["nothing to verify"]),
        (["verify", "nowhere", "--adversarials", "TEXT"], ["leave nowhere out"]),
        (["verify", "--adversarials", "nowhere.npz", "--ckpt", "CKPT"], ["nowhere.npz", "no such file"]),
        (["list", "runs", "x" * 300], ["x" * 300, "File name too long", "name another path"]),
        (["figure", "spiral", "--out", "TEXT"], ["is a file; give a folder"]),
        (["bench", "--threads", "1000000"], ["--threads 1000000", "1,024"]),
        (["gan", "--features", "CKPT", "--workers", "100000"], ["--workers 100000", "1,024"]),
        (["gan", "--features", "CKPT", "--seed", "-1"], ["--seed -1"]),
        (["screen", "--ckpt", "CKPT", "--data", "digits", "--seconds", "-1"], ["--seconds -1 is no time"]),
        (["shift", "--ckpt", "CKPT", "--severities", "x"], ["--severities 'x'", "1,3,5"]),
        (["eval", "--limit", "32", "--limit=5.5"], ["--limit '5.5' is not a whole number"]),
        (["eval", "--config", "run.toml"], ["no such option --config; `csrobust eval --help`"]),
        (["verify", "nowhere"], ["nowhere", "no such folder"]),
        (["verify", "--adversarials", "TEXT", "--ckpt", "CKPT"], ["--adversarials", ".npz"]),
        (["report", "TEXT"], ["run.json"]),
        (["show", "nowhere"], ["nowhere", "no such folder"]),
        (["compare"], ["Missing argument"]),
        (["compare", "nowhere", "nowhere"], ["nowhere", "no such folder"]),
        (["inspect", "TEXT"], ["not a checkpoint"]),
        (["evaluate"], ["'evaluate'"]),
    ],
)
def test_other_commands(csrobust, digits_erm, tmp_path, arguments, words):
    (tmp_path / "text").write_text("hello")
    given = {"CKPT": digits_erm, "TEXT": tmp_path / "text"}
    refused(csrobust(*(given.get(argument, argument) for argument in arguments)), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_an_eps_in_256ths_is_taken_with_a_hint(csrobust, digits_erm):
    answer = csrobust("plan", "--ckpt", digits_erm, *SMALL, "--eps", "8/256")
    assert answer.code == 0
    assert "--eps 8/256 is 0.03125; a pixel has 255 steps: write 8/255" in answer.err
    assert "256" not in csrobust("plan", "--ckpt", digits_erm, *SMALL, "--eps", "8/255").err


def test_a_wrong_value_in_a_file_is_said_with_the_file(csrobust, tmp_path):
    (tmp_path / "run.toml").write_text('ckpt = "digits-erm"\nlimit = "many"\n')
    refused(csrobust("eval", "run.toml"), "run.toml: --limit 'many' is not a whole number")


def test_a_norm_without_a_usual_radius_needs_one(csrobust, digits_erm, tmp_path):
    run = ("--norm", "l2", "--out", tmp_path / "run")
    refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, *run), "--norm l2", "digits", "--eps 0.5")


def test_dropping_the_only_batch(csrobust, digits_erm):
    short = ("--limit", "16", "--batch-size", "32", "--last-batch", "drop", "--rci", "N=48")
    refused(csrobust("eval", "--ckpt", digits_erm, *short), "--last-batch drop", "16 examples", "32")


def test_no_checkpoint(csrobust):
    refused(csrobust("eval"), "--ckpt")


def test_two_checkpoints_of_one_name(csrobust, digits_erm):
    refused(csrobust("eval", "--ckpt", f"a={digits_erm}", "--ckpt", f"a={digits_erm}"), "'a'", "NAME=PATH")


@pytest.fixture
def npz(tmp_path):
    """Makes data sets that are wrong in one way each."""
    rng = np.random.default_rng(0)

    def make(**change):
        arrays = {
            "x": rng.integers(0, 255, (32, 8, 8, 1), dtype=np.uint8),
            "y": rng.integers(0, 10, 32),
        } | change
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return f"npz:{path}"

    return make


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": np.full(32, 10)}, ["10"]),
        ({"y": np.full(32, -1)}, ["-1"]),
        ({"y": np.zeros(31, dtype=int)}, ["31", "32"]),
        ({"x": np.full((32, 8, 8, 1), 1.5)}, ["[0, 1]"]),
        ({"x": np.full((32, 8, 8, 1), np.nan)}, ["NaN"]),
        ({"x": np.zeros((32, 8, 8, 3), dtype=np.uint8)}, ["channel"]),
        ({"x": np.zeros((32, 9, 9, 1), dtype=np.uint8)}, ["9"]),
    ],
)
def test_data(csrobust, digits_erm, npz, change, words):
    spec = npz(**change)
    refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, "--data", spec, "--limit", "31"), *words)


class TestFolder:
    def test_made_with_other_options(self, csrobust, digits_erm, tmp_path):
        run = tmp_path / "run"
        assert csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", run).code == 0
        before = (run / "run.json").read_bytes()
        for options, words in [
            (["--limit", "16"], ["--limit 32", "16", "--overwrite"]),
            (["--seed", "1"], ["--seed 0", "1"]),
            (["--last-batch", "drop"], ["--last-batch pad", "drop"]),
        ]:
            refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", run, *options), *words)
        assert (run / "run.json").read_bytes() == before

    def test_other_weights_under_a_known_name(self, csrobust, digits_erm, tmp_path):
        run = tmp_path / "run"
        other = digits_erm.parent / "digits-mixup.safetensors"
        assert csrobust("eval", "--ckpt", f"a={digits_erm}", *SMALL, "--out", run).code == 0
        refused(csrobust("eval", "--ckpt", f"a={other}", *SMALL, "--out", run), "'a'", "--overwrite")

    def test_other_files_are_not_touched(self, csrobust, digits_erm, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "letter.txt").write_text("dear")
        refused(
            csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "home", "--overwrite"), "home"
        )
        assert (tmp_path / "home" / "letter.txt").read_text() == "dear"

    def test_a_file_where_the_folder_should_be(self, csrobust, digits_erm, tmp_path):
        (tmp_path / "file").write_text("")
        refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "file"), "file")

    @pytest.mark.parametrize(("version", "mend"), [(99, "update csrobust"), (1, "--overwrite")])
    def test_a_manifest_of_another_format(self, csrobust, digits_erm, tmp_path, version, mend):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").write_text(json.dumps({"format_version": version}))
        answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "run")
        refused(answer, f"format {version}", mend)


@pytest.mark.parametrize("command", ["compare", "report"])
def test_reading_a_folder_that_is_no_run(csrobust, tmp_path, command):
    refused(csrobust(command, tmp_path), "run.json")


def test_inspect_of_nothing(csrobust):
    refused(csrobust("inspect", "nothing.pt"), "nothing.pt")


def test_a_list_of_something_else(csrobust):
    refused(csrobust("list", "birds"), "birds", "attacks")
