"""What tells a user's function, module or object from another: what changes its answers, and nothing else."""

import ast
import functools
import importlib
import io
import operator
import os
import random
import subprocess
import sys
import textwrap
import threading
import tokenize
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attacks.adapters.user_modules import files_of, forget_changed, object_named
from robustbench_coded import code_identity
from robustbench_coded.code_identity import arrays_in, code_in_memory, code_of_command

SIGMA = 0.1


class Net(nn.Module):
    def __init__(self, sigma=0.1, weight=1.0):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        nn.init.constant_(self.linear.weight, weight)
        nn.init.zeros_(self.linear.bias)
        self.sigma = sigma

    def forward(self, x):
        return self.linear(x) * self.sigma


class Jitter:
    def __init__(self, sigma=0.1):
        self.sigma, self.lock = sigma, threading.Lock()

    def logits(self, x):
        return x * self.sigma


class Slotted:
    __slots__ = ("sigma",)

    def __init__(self, sigma):
        self.sigma = sigma


def scaled(x, sigma=0.1):
    return x * sigma


def closure(value):
    return lambda x: x * value


def of_source(body, **scope):
    """``f`` as a source defines it, in a scope of its own."""
    scope["__name__"] = "__main__"
    exec(textwrap.dedent(body), scope)
    return scope["f"]


def no_grad_around(value):
    @torch.no_grad()
    def forward(x):
        return x * value

    return forward


def hooked(sigma):
    net = Net()
    net.register_forward_hook(lambda net, x, y: y * sigma)
    return net


def in_itself(value):
    thing = {"value": value}
    thing["again"] = [thing]
    return thing


class LeavesOut(Jitter):
    """Its state is what a process could not rebuild it from."""

    def __getstate__(self):
        return {"lock": None}


class Rebuilt(dict):
    def __init__(self, sigma):
        super().__init__(kept=sigma if sigma < 0.5 else 0.1)
        self.sigma = sigma

    def __reduce__(self):
        return dict, ()


def module_with(sigma):
    module = types.ModuleType("settings_in_memory")
    module.sigma = sigma
    return module


def reads(expression, sigma):
    """A function that reads a value of a user's module by an expression."""
    body = f"def read(module): return module.sigma\ndef f(x): return x * {expression}"
    return of_source(body, cfg=module_with(sigma), sig=sigma, attrgetter=operator.attrgetter)


# Ways to read a value that name it in a string, or that pass a module on.
INDIRECT = (
    'getattr(cfg, "sigma")', 'vars(cfg)["sigma"]', 'cfg.__dict__["sigma"]', 'attrgetter("sigma")(cfg)',
    "read(cfg)", "(lambda c: c.sigma)(cfg)", 'globals()["sig"]', 'eval("sig")', 'read.__globals__["sig"]',
)  # fmt: skip

MAKERS = {
    **{expression: functools.partial(reads, expression) for expression in INDIRECT},
    "a module that is held": lambda v: closure(module_with(v)),
    "a state that leaves a value out": LeavesOut,
    "a reduction that leaves a value out": Rebuilt,
    "constant": lambda v: of_source(f"f = lambda x: x * {v}"),
    "global": lambda v: of_source("f = lambda x: x * SIGMA", SIGMA=v),
    "global of another function": lambda v: of_source("f = lambda x: g(x)", g=closure(v)),
    "global in a nested function": lambda v: of_source(
        """
        def f(x):
            def inner(x):
                return x * SIGMA
            return inner(x)
        """,
        SIGMA=v,
    ),
    "default": lambda v: of_source(f"def f(x, sigma={v}): return x * sigma"),
    "closure": closure,
    "closure over a module": lambda v: closure(Net(v)),
    "partial": lambda v: functools.partial(scaled, sigma=v),
    "method": lambda v: Jitter(v).logits,
    "object": Jitter,
    "slots": Slotted,
    "attribute of a module": Net,
    "weight": lambda v: Net(weight=v),
    "in a container": lambda v: nn.Sequential(nn.ReLU(), Net(v)),
    "hook": hooked,
    "decorated by a package": no_grad_around,
    "parameter of a layer of torch": nn.Dropout,
    "normalised weights": lambda v: nn.utils.parametrizations.weight_norm(Net(weight=v).linear),
    "tensor": lambda v: closure(torch.tensor([v])),
    "bfloat16": lambda v: closure(torch.full((2,), v, dtype=torch.bfloat16)),
    "array": lambda v: closure(np.array([v])),
    "set": lambda v: closure({"a", "b", v}),
    "cycle": in_itself,
    "class": lambda v: type("Built", (), {"__module__": "__main__", "forward": closure(v)}),
    "classes of another order": lambda v: [Jitter, Net][:: 1 if v < 0.5 else -1],
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_changes_answers_changes_the_identity_and_a_twin_has_the_same(make):
    first, twin, other = (code_in_memory(make(v)) for v in (0.1, 0.1, 0.7))
    assert first == twin and first.unknown == ""
    assert first.parts != other.parts


def test_code_is_named_and_its_packages_count_by_version():
    parts = code_in_memory(closure(Net())).parts
    assert parts.keys() == {"closure.lambda", "torch"} and code_in_memory(Net()).parts.keys() == {
        "Net",
        "torch",
    }
    assert parts["torch"] == torch.__version__.partition("+")[0]


def test_an_override_an_attribute_puts_in_place_of_a_method_counts():
    plain, patched = Net(), Net()
    patched.forward = lambda x: x
    assert code_in_memory(plain).parts != code_in_memory(patched).parts


def test_modes_count_where_they_are_kept():
    training, evaluating = Net(), Net().eval()
    assert code_in_memory(training) != code_in_memory(evaluating)
    assert code_in_memory(training, modes=False) == code_in_memory(evaluating, modes=False)


def test_attributes_of_a_users_module_count_where_a_function_reads_them(tmp_path, monkeypatch):
    (tmp_path / "settings_of_a_test.py").write_text(
        "SIGMA = 0.1\nOTHER = 1\ndef scale(x): return SIGMA * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import settings_of_a_test as settings

    f = of_source("f = lambda x: settings.scale(x)", settings=settings)
    before = code_in_memory(f).parts
    settings.OTHER = 2
    assert code_in_memory(f).parts == before
    settings.SIGMA = 0.2
    assert code_in_memory(f).parts != before


@pytest.mark.parametrize(
    "body",
    [
        "import settings_of_a_test as c; return c.SIGMA",
        "from settings_of_a_test import SIGMA; return SIGMA",
        "import package_of_a_test.inner; return package_of_a_test.inner.SIGMA",
        "from package_of_a_test import inner; return inner.SIGMA",
        "from .settings_of_a_test import SIGMA; return SIGMA",
    ],
)
def test_values_of_a_module_that_is_imported_inside_a_function_count(tmp_path, monkeypatch, body):
    (tmp_path / "package_of_a_test").mkdir()
    names = ("settings_of_a_test", "package_of_a_test", "package_of_a_test.inner")
    names += ("package_of_a_test.settings_of_a_test",)
    for name in names:
        file = "package_of_a_test/__init__" if name == "package_of_a_test" else name.replace(".", "/")
        (tmp_path / f"{file}.py").write_text("SIGMA = 0.1\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    f = of_source(f"def f(x): {body}", __package__="package_of_a_test")
    before = code_in_memory(f)
    f(0)
    assert code_in_memory(f) == before and before.unknown == ""
    for name in {*names} & sys.modules.keys():
        sys.modules[name].SIGMA = 0.2
    assert f(0) == 0.2 and code_in_memory(f).parts != before.parts


def test_a_module_that_cannot_be_imported_stays_the_functions_business():
    f = of_source("def f(x):\n import not_there_of_a_test\n from . import neither\n return x")
    assert code_in_memory(f) == code_in_memory(f) and code_in_memory(f).unknown == ""


@pytest.mark.parametrize(
    "expression", ['__import__("json")', 'importlib.import_module("json")', 'sys.modules["json"]']
)
def test_modules_by_computed_names_cannot_be_compared(expression):
    code = code_in_memory(of_source(f"def f(x): return {expression}", importlib=importlib, sys=sys))
    assert code.unknown == "f may load modules by names that it computes"


def test_what_cannot_be_read_is_named(tmp_path):
    deep = []
    for _ in range(20_000):
        deep = [deep]
    with (tmp_path / "log").open("w") as log:
        for unreadable, named in [
            (log, "TextIOWrapper"),
            ((i for i in "ab"), "generator"),
            (torch.zeros(2, device="meta"), "meta tensor"),
            (deep, "RecursionError"),
            (torch.jit.script(Net()), "Tried to serialize"),
        ]:
            code = code_in_memory(closure(unreadable))
            assert not code.parts and code.unknown.startswith("it holds what can't be read (")
            assert named in code.unknown


def test_where_a_generator_stands_decides_nothing():
    for make in (lambda seed: torch.Generator().manual_seed(seed), np.random.default_rng, random.Random):
        assert code_in_memory(closure(make(1))) == code_in_memory(closure(make(2)))
        assert arrays_in([make(1)]) == arrays_in([make(2)])


def test_arrays_alone_know_no_code():
    assert arrays_in(Jitter(0.1)).parts == arrays_in(Jitter(0.7)).parts == {}
    assert arrays_in([Net(sigma=0.1)]) == arrays_in([Net(sigma=0.7)])
    assert arrays_in([Net(weight=0.1)]) != arrays_in([Net(weight=0.7)])


def test_a_file_runs_as_it_is_whatever_bytecode_or_module_there_is_of_it_before(tmp_path, monkeypatch):
    """Of the same second and size, or imported by the program and edited since."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    file, left = tmp_path / "scaling_of_a_test.py", []

    def write(value):
        file.write_text(f"def f(): return {value}\n")
        os.utime(file, (2e9, 2e9))

    write(0)
    importlib.import_module(file.stem)
    for place in (file.stem, str(file)):
        for value in (1, 2):
            write(value)
            forget_changed(files_of(place))
            left.append(object_named(f"{place}:f")())
    assert left == [1, 2, 1, 2]


def test_a_command_counts_by_its_files_and_what_scripts_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve.py").write_text("import helper\nfrom numpy import array\n")
    (tmp_path / "helper.py").write_text("SIGMA = 0.1\n")
    for name in ("w.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"1")
    command = f"{sys.executable} serve.py w.bin --biases=b.bin --sigma 0.1"
    code = code_of_command(command)
    files = ("serve.py", "helper.py", "w.bin", "b.bin")
    assert code.parts.keys() == {"executable", "numpy", *files} and not code.unknown
    for name in files:
        file = tmp_path / name
        file.write_bytes(file.read_bytes() + b"\n")
        changed = code_of_command(command)
        assert {part for part in code.parts if code.parts[part] != changed.parts[part]} == {name}
        code = changed
    assert code_of_command(f"{sys.executable} -m helper").parts.keys() == {"executable", "helper.py"}
    assert code_of_command("docker run -i their-image").unknown == "its command names no file of its code"


@pytest.mark.long
def test_what_torch_compiles_counts_as_what_it_was():
    first, twin, other = (code_in_memory(torch.compile(Net(sigma))) for sigma in (0.1, 0.1, 0.7))
    assert first == twin and first.unknown == "" and first.parts != other.parts
    assert code_in_memory(torch.compile(scaled)) == code_in_memory(scaled)


@pytest.mark.long
def test_another_process_finds_the_same(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            from tests.test_code_identity import MAKERS, code_in_memory
            import torch; torch.manual_seed(0)
            for name, make in MAKERS.items():
                print(name, code_in_memory(make(0.1)))
            """
        )
    )
    found = [
        subprocess.run(
            [sys.executable, tmp_path / "mine.py"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert found[0] == found[1] and "closure over a module" in found[0]


def significant(source, docstrings=()):
    """Tokens that are neither layout nor comment, without strings at these places."""
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type not in layout and token.start not in docstrings]


def docstrings_of(source):
    """Line and column of each."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            yield node.body[0].lineno, node.body[0].col_offset


SPEAKING = """'''#'''
def f(x):  # of x
    \"\"\"A "docstring" with a # and a \\\"\"\".\"\"\"
    y = "#" + '"' + \"\"\"a # that
    stays\"\"\"  # and one that goes

    # alone
    return f"{x}#", y
"""


def test_own_code_counts_without_comments_and_docstrings():
    silent = code_identity.without_comments(SPEAKING)
    assert silent == code_identity.without_comments(
        SPEAKING.replace("of x", "of y").replace("alone", "x\n\n#")
    )
    assert silent != code_identity.without_comments(SPEAKING.replace("# that", "% that"))
    assert [line.strip() for line in silent[-4:]] == [
        "def f(x):", """y = "#" + '"' + \"\"\"a # that""", 'stays"""', 'return f"{x}#", y',
    ]  # fmt: skip


def test_own_code_is_that_of_the_files_that_decide_outcomes(tmp_path, monkeypatch):
    monkeypatch.setattr(code_identity, "__file__", str(tmp_path / "robustbench_coded" / "code_identity.py"))
    digests = []
    for name, text in [
        ("attacks/new/step.py", "SIZE = 1\n"),
        ("robustbench_coded/cli/main.py", "SIZE = 1\n"),
        ("attacks/new/step.py", "# a comment\nSIZE = 1\n"),
        ("robustbench_coded/evaluation/execution/score.py", "SIZE = 1\n"),
        ("attacks/new/step.py", "SIZE = 2\n"),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.append(code_identity.own_code.__wrapped__())
    assert digests[0] == digests[1] == digests[2] and len({*digests}) == 3


@pytest.mark.long
def test_of_each_file_that_decides_outcomes_all_code_counts():
    root = Path(code_identity.__file__).parents[1]
    files = {file for part in code_identity._DECIDE for file in root.glob(part)}
    assert {root / "attacks" / "pgd.py", root / "robustbench_coded" / "schema" / "case.py"} < files
    for file in files:
        source = file.read_text("utf-8")
        silent = "\n".join(code_identity.without_comments(source))
        assert significant(silent) == significant(source, {*docstrings_of(source)}), file
