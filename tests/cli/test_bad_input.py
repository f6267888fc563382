"""Wrong input: one line on standard error that says what, where and how to mend it, and exit code 2."""

import json
import sys

import pytest

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm", "--threads", "1")
OUT = ("--out", "x.safetensors")
TINY = ("--arch", "digits-cnn", "--data", "digits")
SET = ("-o", "arch=digits-cnn", "-o", "data=digits")


def refused(answer, *words):
    assert answer.code == 2, answer.err
    assert len(answer.err.strip().splitlines()) == 1, answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "641"], ["641", "640"]),
        (["--limit", "x"], ["--limit"]),
        (["--rci", "N=16", "--batch-size", "3"], ["3"]),
        (["--batch-size", "eight"], ["eight"]),
        (["--batch-size", "99999"], ["--batch-size 99999", "16,384"]),
        (["--attacks", "torchattacks:Nope"], ["'Nope'", "torchattacks"]),
        (["--attacks", "pgd-10+target=10"], ["pgd-10+target=10"]),
        (["--attacks", "fgsm,,"], ["'fgsm,fgsm,,'", "empty name"]),
        (["--data", "npz:nowhere.npz"], ["nowhere.npz"]),
        (["--device", "abacus"], ["abacus"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--inputs", "everything"], ["everything", "victim"]),
        (["--normalize", "0.5/0"], ["0.5/0", "positive"]),
        (["--arch", "os:getcwd"], ["os:getcwd", "str"]),
        (["--ckpt", "=x.pt"], ["'=x.pt'", "NAME=PATH"]),
        (["--no-standard"], ["--no-standard"]),
        (["--claim", "2"], ["--claim 2", "72%"]),
        (["--margin", "-1"], ["--margin -1", "0 or more"]),
        (["--claim", "pgd-10"], ["--claim pgd-10", "72%"]),
        (["--claim", "72% pdg-10"], ["--claim", "did you mean pgd-10"]),
        (["--claim", "72% votes=1"], ["--claim votes 1", "give 2 or more"]),
        (["--claim", "72% eps=wide"], ["--claim eps 'wide'", "write 8/255"]),
        (["--state", "persistent:1"], ["'persistent:1'", "persistent:8"]),
        (["--claim", "0.5 votes=11"], ["--claim votes=11", "--draws 11"]),
        (
            ["--claim", "0.5 votes=3 batch/known"],
            ["batch/known", "no majority"],
        ),
        (["--claim", "0.5 batch"], ["--claim: batch is", "batch/unknown"]),
        (["--claim", "0.5 collateral-4/unknown"], ["collateral-4", "batch/unknown"]),
        (["--inputs", "collateral"], ["--inputs 'collateral' is not known", "batch, victim, co-batch"]),
        (["--claim", "0.5 eps=0.1"], ["--claim eps=0.1", "--eps 0.3"]),
        (["--seed", "-1"], ["--seed -1", "0 or more"]),
        (["--time", "30"], ["--time", "30m"]),
        (["--out", "/proc/run"], ["/proc/run"]),
    ],
)
def test_options(csrobust, digits_erm, tmp_path, options, words):
    """One of each kind: ranges are in evaluation/test_options.py, names where they are parsed."""
    answer = csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", tmp_path / "run", *options)
    refused(answer, *words)
    assert not (tmp_path / "run").exists()


DEFENCES = """
import signal

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


fewer_rows = answering(lambda logits: logits[:-1])
one_class = answering(lambda logits: logits[:, :1])
text = answering(lambda logits: "cat")
several = answering(lambda logits: (logits, logits))
hanging = answering(lambda logits: signal.raise_signal(signal.SIGALRM))  # its time is up


class NoDraw(Answers):
    def sample(self, generator, k):
        raise RuntimeError("no dice")


class NamedForTheTerminal(Answers):
    name = "../x\\n\\x1b[31m"


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
        ("one_class", ["1 logits", "10 classes"]),
        ("text", ["str", "not with a tensor"]),
        ("several", ["hostile returns a tuple"]),
        ("hanging", ["hangs", "1800 s"]),
        ("NoDraw", ["no dice"]),
        ("NamedForTheTerminal", ["[31m"]),
        ("BaseOfOtherImages", ["base model", "(16, 1, 8, 8)"]),
        ("BaseOfCleanInputs", ["base model", "no such pixel"]),
        ("BaseOfOtherClasses", ["base model", "(16, 3), not (16, 10)"]),
        ("BaseWithoutGradient", ["base model", "base be None"]),
        ("ChangesTheNetworkLater", ["copy.deepcopy(model)"]),
        ("builds_nothing", ["NoneType", "sample(generator, k)"]),
    ],
)
def test_defences(csrobust, digits_erm, tmp_path, defences, name, words):
    """What is refused in user code; defences/test_probe.py has the sentences of the probe."""
    chosen = ("--defence", f"hostile:{name}", "--out", tmp_path / "run")
    refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, *chosen), *words)
    assert not (tmp_path / "run").exists()


def test_a_probe_says_what_is_wrong_and_not_what_fails_for_it(csrobust, digits_erm, defences):
    probe = ("inspect", digits_erm, "--data", "digits", "--threads", "1")
    refused(csrobust(*probe, "--defence", "hostile:fewer_rows"), "(15, 10)", "(16, classes)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], ["--ckpt"]),
        (["plan", "--ckpt", "CKPT", "--attacks", "pgb-10"], ["pgb-10", "pgd-10"]),
        (["sweep", "--ckpt", "CKPT", "--batch-size", "8"], ["--rci N=1.5K"]),
        (["screen", "--ckpt", "nothing.pt", "--rci", "N=8"], ["nothing.pt"]),
        (["train", "--recipe", "nothing.toml", *OUT], ["nothing.toml"]),
        (["train", "--recipe", "erm", "-o", "data=digits", *OUT], ["-o arch=NAME"]),
        (["train", "--recipe", "erm", *SET, "--seeds", "0", *OUT], ["--seeds 0"]),
        (["train", "--recipe", "coded", *SET, "-o", "blocks=0,x", *OUT], ["blocks = '0,x'"]),
        (["train", "--recipe", "coded", *TINY, *OUT], ["--arch", "write -o arch=VALUE"]),
        (["train", "--recipe", "coded", "--batch-size", "3"], ["write -o batch_size=VALUE"]),
        (["paper", "figure", "spiral", "--seeds", "0"], ["--seeds 0"]),
        (["paper", "figure", "loss", *SET, "--recipes", "er"], ["unknown recipe 'er'"]),
        (["verify"], ["either a run folder or --adversarials"]),
        (["verify", "nowhere", "--adversarials", "TEXT"], ["either a run folder or --adversarials"]),
        (["verify", "TEXT", "--eps", "0.1"], ["--eps: the run says it; leave it out"]),
        (["eval", "--ckpt", "CKPT", "--junit", "nowhere/j.xml"], ["--junit", "nowhere is no folder"]),
        (["verify", "--adversarials", "nowhere.npz", "--ckpt", "CKPT"], ["nowhere.npz", "no such file"]),
        (["list", "birds"], ["birds", "attacks"]),
        (["list", "runs", "x" * 300], ["x" * 300, "name another path"]),
        (["paper", "gan", "--features", "CKPT", "-o", "seed=-1"], ["seed = -1", ">= 0"]),
        (["screen", "--ckpt", "CKPT", "--data", "digits", "--time", "-1s"], ["--time '-1s'"]),
        (["paper", "shift", "--ckpt", "CKPT", "--severities", "x"], ["--severities 'x'", "1,3,5"]),
        (["eval", "--config", "run.toml"], ["no such option", "--config"]),
        (["report", "TEXT"], ["run.json"]),
        (["show", "nowhere"], ["nowhere", "no such folder"]),
        (["compare"], ["Missing argument"]),
        (["compare", "nowhere", "nowhere"], ["nowhere", "no such folder"]),
        (["inspect", "TEXT"], ["not a checkpoint"]),
        (["evaluate"], ["'evaluate'"]),
        (["inspect", "TEXT", "TEXT"], ["unexpected argument"]),
        (["inspect", "--rci", "N=8"], ["no checkpoint given"]),
        (["eval", "--quiet=yes"], ["--quiet takes no value"]),
        (["screen", "--until", "settled"], ["csrobust screen has no --until", "csrobust eval has it"]),
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
    assert "8/256" in answer.err and "write 8/255" in answer.err
    assert "256" not in csrobust("plan", "--ckpt", digits_erm, *SMALL, "--eps", "8/255").err


def test_a_wrong_value_in_a_file_is_said_with_the_file(csrobust, tmp_path):
    (tmp_path / "run.toml").write_text('ckpt = "digits-erm"\nlimit = "many"\n')
    refused(csrobust("eval", "run.toml"), "run.toml: --limit 'many'")


@pytest.mark.parametrize("name", ["attacks", "eps", "inputs"])
def test_an_empty_list_in_a_file_does_not_stand_for_the_default(csrobust, tmp_path, name):
    (tmp_path / "run.toml").write_text(f'ckpt = "digits-erm"\n{name} = []\n')
    refused(csrobust("eval", "run.toml"), f"run.toml: {name} is an empty list; name one or more")


def test_a_norm_without_a_usual_radius_needs_one(csrobust, digits_erm, tmp_path):
    run = ("--norm", "l2", "--out", tmp_path / "run")
    refused(csrobust("eval", "--ckpt", digits_erm, *SMALL, *run), "--norm l2", "digits", "--eps 0.5")


def test_two_checkpoints_of_one_name(csrobust, digits_erm):
    refused(csrobust("eval", "--ckpt", f"a={digits_erm}", "--ckpt", f"a={digits_erm}"), "'a'", "NAME=PATH")


class TestFolder:
    def test_made_with_other_options(self, csrobust, digits_erm, tmp_path):
        run = tmp_path / "run"
        assert csrobust("eval", "--ckpt", digits_erm, *SMALL, "--out", run).code == 0
        before = (run / "run.json").read_bytes()
        for options, words in [
            (["--limit", "16"], ["--limit 32", "16", "--overwrite"]),
            (["--seed", "1"], ["--seed 0", "1"]),
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
