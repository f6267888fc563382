"""Defences in processes of their own: what they answer, and what becomes of those that end, hang or lie."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.relaxation.stop_gradients import functions
from robustbench_coded.defences.plugin import build_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.probing import probed
from robustbench_coded.extras import piped

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
K, CLASSES = 8, 3
X = torch.rand(K, 1, 4, 4, generator=torch.Generator().manual_seed(0))

# The first part of the example, and answers that go wrong in a named way from some question on.
FAULTY = """
import os, time
asked = 0

def logits_and_gradient(x, seed):
    global asked
    asked += 1
    logits = x.reshape(len(x), -1)[:, :3] * 10
    late = asked > {after}
    if {how!r} == "killed" and late:
        os.kill(os.getpid(), 9)
    if {how!r} == "ends" and late:
        raise SystemExit("no licence")
    if {how!r} == "hangs" and late:
        time.sleep(1000)
    if {how!r} == "raises" and late:
        raise ValueError("too bright")
    if {how!r} == "prints" and late:
        writing.write(b"epoch 1 of 10: loss 2.3" * 3), writing.flush()
    if {how!r} == "shape" and late:
        logits = logits[:-1]
    if {how!r} == "names" and late:
        return str(logits), None
    if {how!r} == "nan" and late:
        logits[::2] = np.nan
    if {how!r} == "another" and late:
        logits = logits + asked
    return logits, lambda v: np.zeros_like(x)[:, :, 1:]
"""


def protocol() -> str:
    return (EXAMPLES / "serve_numpy.py").read_text().split("# " + "-" * 80)[1]


@pytest.fixture
def faulty(tmp_path):
    """The command of a process that goes wrong in a named way after some questions."""

    def command(how, after=0, declared="randomised=False, batch_dependent=False, gradients=False"):
        file = tmp_path / f"{how}.py"
        head = "import io, struct, sys\nimport numpy as np\n"
        served = f"serve(name='faulty', {declared})\n"
        file.write_text(head + FAULTY.format(how=how, after=after) + protocol() + served)
        return f"cmd: {sys.executable} {file}"

    return command


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    draw = np.random.RandomState(0).normal
    shapes = {"w1": (16, 8), "b1": (8,), "w2": (8, CLASSES), "b2": (CLASSES,)}
    file = tmp_path_factory.mktemp("weights") / "weights.npz"
    np.savez(file, **{name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()})
    return file


@pytest.fixture(scope="module")
def noisy(weights):
    return built(f"cmd: {sys.executable} {EXAMPLES}/serve_numpy.py {weights}")


def built(command):
    return build_defence(command, torch.nn.Identity(), K)


def in_torch(weights, x, seed):
    """What the server without torch is to answer."""
    w = {name: torch.from_numpy(value) for name, value in np.load(weights).items()}
    noise = np.random.RandomState(seed).normal(0, 0.1, x.shape).astype(np.float32)
    hidden = torch.tanh((x + torch.from_numpy(noise)).flatten(1) @ w["w1"] + w["b1"])
    return hidden @ w["w2"] + w["b2"]


def test_answers_and_gradients_are_those_of_the_process(noisy, weights):
    assert (noisy.name, noisy.randomised, noisy.batch_dependent) == ("noisy-numpy", True, False)
    seed = noisy.sample(torch.Generator().manual_seed(1), K)
    grads = []
    for answer in (noisy.logits, lambda x, seed: in_torch(weights, x, seed)):
        leaf = X.clone().requires_grad_()
        logits = answer(leaf, seed)
        torch.testing.assert_close(logits, in_torch(weights, X, seed))
        grads += torch.autograd.grad(logits.square().sum(), leaf)
    torch.testing.assert_close(*grads)
    assert not torch.equal(noisy.logits(X, seed + 1), noisy.logits(X, seed))


def test_nothing_is_found_wrong_with_an_honest_process(noisy):
    found = probed(noisy, X, 0, remembers=X, whole=X)
    assert found.contradictions == ()
    assert found.figures["no_gradient"] == "" and found.figures["zero_gradients"] == 0


def test_a_process_is_shared_and_started_anew_where_it_is_sent(noisy, weights):
    again = built(f"cmd: {sys.executable} {EXAMPLES}/serve_numpy.py {weights}")
    assert again.defence.process is noisy.defence.process
    assert copy.deepcopy(noisy.defence) is noisy.defence
    sent = pickle.loads(pickle.dumps(noisy.defence))
    assert torch.equal(sent.logits(X, 3), noisy.logits(X, 3))


def test_the_example_in_torch_draws_by_the_seed(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, CLASSES))
    with pytest.warns(Warning, match="jit"):
        torch.jit.save(torch.jit.trace(network, X), tmp_path / "model.pt")
    command = f"cmd: {sys.executable} {EXAMPLES}/serve_torch.py {tmp_path}/model.pt"
    defence = build_defence(command, network, K)
    leaf = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(defence.logits(leaf, 5)[:, 0].sum(), leaf)
    torch.manual_seed(5)
    kept = torch.nn.functional.dropout(torch.ones_like(X), 0.1)
    torch.testing.assert_close(defence.logits(X, 5), network(X * kept))
    torch.testing.assert_close(grad, network[1].weight[0].view(1, 1, 4, 4) * kept)


def test_a_process_ends_with_the_defence(faulty):
    defence = built(faulty("honest"))
    popen = defence.defence.process._process
    del defence
    assert popen.poll() is not None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("killed", "its process was killed by SIGKILL"),
        ("ends", r"its process ended with exit code 1 \(no licence\)"),
        ("hangs", "its process hangs: no answer in 0.3 s"),
        ("raises", "ValueError: too bright"),
        ("prints", r"it writes .*epoch 1 of 10.* to standard output, which is for messages"),
        ("shape", r"it answers with logits of shape \(7, 3\), not \(8, classes\)"),
        ("names", r"it answers with logits <U\d+ \[\], not with logits"),
        ("nan", r"answers 50% of clean inputs with NaN or infinite logits, and at most 5% may be errors"),
        ("another", "has a memory: asked again at once, its answer to one batch under one draw has changed"),
    ],
)
def test_a_process_that_dies_hangs_or_lies_is_refused_in_one_line(faulty, monkeypatch, how, words):
    if how == "hangs":  # no other process is short of time
        monkeypatch.setattr(piped, "ANSWER_SECONDS", 0.3)
        monkeypatch.setattr(piped, "GRACE_SECONDS", 0.1)
    defence = built(faulty(how))
    try:
        said = "; ".join(probed(defence, X, 0, remembers=X, whole=X).contradictions)
    except InputError as error:
        said = str(error)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(said)
    assert "\n" not in said


def test_what_has_died_is_not_asked_again(faulty, monkeypatch):
    command = faulty("killed", after=1)
    defence = built(command)
    torch.testing.assert_close(defence.logits(X, None), 10 * X.flatten(1)[:, :3])
    for _ in range(2):
        with pytest.raises(piped.ProcessFailed, match="killed by SIGKILL"):
            defence.logits(X, None)
    # A new evaluation in the same program begins with a new process.
    assert built(command).logits(X, None).shape == (K, 3)


def test_a_gradient_of_another_shape_means_no_gradient(faulty):
    command = faulty("honest", declared="randomised=False, batch_dependent=False, gradients=True")
    found = probed(built(command), X, 0, remembers=X, whole=X)
    assert "vjp of shape (8, 1, 3, 4), not (8, 1, 4, 4)" in found.figures["no_gradient"]
    assert found.contradictions == ()


def test_more_inputs_than_it_takes_are_sent_in_parts_where_that_changes_nothing(faulty):
    plain = "batch_dependent=False, gradients=False, k=3"
    defence = built(faulty("honest", declared=f"randomised=False, {plain}"))
    torch.testing.assert_close(defence.logits(X, None), 10 * X.flatten(1)[:, :3])
    random = built(faulty("honest2", declared=f"randomised=True, {plain}"))
    with pytest.raises(piped.ProcessFailed, match="at most 3 inputs at once; give --batch-size 3"):
        random.logits(X, 0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-command-anywhere", "No such file or directory"),
        ("'unclosed", "No closing quotation"),
        (
            f"{sys.executable} -c 'import no_such_framework'",
            "exit code 1 .*No module named 'no_such_framework'",
        ),
        (
            f"{sys.executable} -c 'print(\"Loading TensorFlow ...\")'",
            "it writes .*Loading Tens.* to standard output",
        ),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(command, words):
    with pytest.raises(InputError, match=rf"^--defence cmd: .*{words}") as refused:
        built(f"cmd: {command}")
    assert "\n" not in str(refused.value)


def test_what_it_declares_is_checked(faulty):
    command = faulty("honest", declared="randomised='no', batch_dependent=False, gradients=False, k=1.5")
    said = "its first message declares no randomised, k; it takes a text as name"
    for wrong, words in ((command, said), ("cmd: ", "cmd: needs a command")):
        with pytest.raises(InputError, match=words):
            built(wrong)


def test_relaxed_attacks_leave_the_gradient_to_the_process():
    assert piped._AskedForGradient not in set(functions())
