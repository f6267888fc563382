"""Defences as the command line names them, ``rci:N=1.5K,average=4``, ``noise:sigma=0.1``. Needs no torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from robustbench_coded.coding.sizes import FEWEST, MOST, coded_size
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.extensions import all_of
from robustbench_coded.options.option import Rule, check_value, count, number, one_of
from robustbench_coded.options.values import read_number

CODED = ("coded", "rci")  # the defences that take N
PIPED = "cmd:"  # of a defence in a process of its own; its command follows
GIVEN = "given:"  # of one in memory; its name follows
_LARGE_K = 1024  # multiples of K may be up to 64 K
_PLUGIN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class DefenceSpec:
    """One defence and its options, as plain data.

    Attributes:
        kind: ``standard``, ``coded``, ``rci``, a baseline, a name that an installed package brings
            (``published:jpeg``, ``coin-flip``), or ``plugin``.
        n: coded inputs as given, ``190`` or ``1.5K``; None where that means nothing.
        options: (name, value) in a fixed order; of coded defences those that are not at their defaults.
        target: ``package.module:function``, ``file.py:function`` or ``cmd: COMMAND`` of a user defence, else
            None.
    """

    kind: str
    n: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    target: str | None = None

    @property
    def label(self) -> str:
        """The defence as tables name it, ``rci[average=4]``; a user defence is named by the object it
        builds.
        """
        shown = ",".join(f"{name}={_shown(value)}" for name, value in self.options)
        name = self.target or self.kind
        return f"{name}[{shown}]" if shown else name

    def resolve_n(self, k: int) -> int | None:
        """Coded inputs for batches of ``k``: ``190`` is itself, ``1.5K`` is 1.5 k rounded half up; None for a
        defence that has none.

        Raises:
            InputError: not a count or a multiple of K, below 4 or above 65536; a batch of fewer than 4.
        """
        if self.n is None:
            return None
        refuse_small_batch(k)
        try:
            return coded_size(self.n, k)
        except ValueError as error:
            raise InputError(f"N={self.n}: {error}; write for example N=190 or N=1.5K") from error


def parse_defence(text: str) -> DefenceSpec:
    """Reads ``standard``, ``rci:N=190``, ``noise:sigma=0.1``, a name of the zoo, ``package.module:function``.

    A file may stand for the module, ``some/where/mine.py:function``; without a function it is ``build``.
    ``cmd: COMMAND`` is a defence in a process of its own.

    Raises:
        InputError: an unknown defence or option, a value out of range, N missing or below 4.
    """
    kind, _, rest = text.strip().partition(":")
    if kind in _OPTIONS:
        return _known(kind, rest)
    name = text.strip() if rest else kind
    if (family := [known for known in installed() if known.startswith(f"{kind}:")]) or name in installed():
        return _installed(name, family)
    if text.strip().startswith(PIPED):
        if not rest.strip():
            raise InputError(f'{PIPED} needs a command; write "{PIPED} python my_server.py"')
        return DefenceSpec("plugin", target=text.strip())
    if kind.endswith(".py"):
        return DefenceSpec("plugin", target=f"{kind}:{rest or 'build'}")
    if _PLUGIN.fullmatch(text.strip()):
        return DefenceSpec("plugin", target=text.strip())
    whole = [known for known in installed() if known.endswith(f":{kind}")]
    near = f"did you mean {whole[0]}? " if whole else did_you_mean(kind, [*_OPTIONS, *installed()])
    raise InputError(
        f"defence {text!r} is not known; {near}write a name of "
        "`csrobust list defences`, package.module:function or file.py:function"
    )


def is_user_defence(spec: str) -> bool:
    """True if a specification, as text, names user code."""
    return spec.startswith(GIVEN) or parse_defence(spec).kind not in DEFENCES


def mixes_images(spec: DefenceSpec) -> bool:
    """True if a defence needs images that are not evaluated."""
    return spec.kind == "mixup-inference" or getattr(installed().get(spec.kind), "pooled", False)


@cache
def installed() -> dict[str, Any]:
    """The defences of ``csrobust.defences`` by name; ``FAMILY:NAME`` where a package has a family of them.

    Each has ``.description`` and ``.build(model)``. What else it may have:

    pooled          True where it is ``.build(model, pool)``, with images that are not evaluated
    stands_for()    the defence of csrobust that it is, ``rci:N=1.5K``, or ''; raises InputError where it
                    cannot be built around a checkpoint
    brings(config)  options completed, and the model and data in memory that it is evaluated with
    """
    return {name: defence for defences in all_of("defences").values() for name, defence in defences.items()}


def brought(name: str) -> Any:
    """The defence of the zoo, or of another extension, that brings its model and its data; None for
    others.
    """
    defence = None if name.partition(":")[0] in _OPTIONS else installed().get(name)
    return defence if hasattr(defence, "brings") else None


def _installed(name: str, family: list[str]) -> DefenceSpec:
    """The defence of an extension that has this name.

    Args:
        family: all names that begin alike.
    Raises:
        InputError: there is none, or it cannot be built.
    """
    entry = installed().get(name)
    if entry is None:
        last = name.partition(":")[2]
        near = did_you_mean(last, [known.partition(":")[2] for known in family])
        raise InputError(f"{name} is not known; {near}`csrobust list defences` has them")
    meant = entry.stands_for() if hasattr(entry, "stands_for") else ""
    return parse_defence(meant) if meant else DefenceSpec(name)


def refuse_small_batch(k: int) -> None:
    """Raises InputError where coded inference has no N for batches of ``k``."""
    if k < FEWEST:
        raise InputError(f"coded inference needs batches of at least {FEWEST}; --batch-size {k} is too small")


def _known(kind: str, rest: str) -> DefenceSpec:
    """A spec of a defence of ours from its comma-separated ``name=value`` pairs."""
    table = _OPTIONS[kind]
    given: dict[str, Any] = {}
    for part in (p.strip() for p in rest.split(",") if p.strip()):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise InputError(f"{kind}: {part!r} is not name=value; write {_example(kind)}")
        if name not in table:
            takes = f"it takes {', '.join(table)}" if table else "it takes none"
            raise InputError(f"{kind} has no option {name!r}; {did_you_mean(name, table)}{takes}")
        if name in given:
            raise InputError(f"{kind}: {name} is given twice; give it once")
        if not value:
            raise InputError(f"{kind}: {name}= has no value; write {_example(kind)}")
        given[name] = table[name][0](value, f"{kind}: {name}")
    values = {name: given.get(name, default) for name, (_, default) in table.items()}
    if missing := [name for name, value in values.items() if value is _REQUIRED]:
        what = "the number of coded inputs" if kind in CODED else missing[0]
        raise InputError(f"{kind} needs {what}; write {_example(kind)}")
    n = values.pop("N", None)
    shown = {name for name, value in values.items() if kind not in CODED or value != table[name][1]}
    return DefenceSpec(kind, n, tuple((name, value) for name, value in values.items() if name in shown))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _example(kind: str) -> str:
    return f"--{kind} N=190" if kind in CODED else _EXAMPLES.get(kind, kind)


def _coded_inputs(text: str, option: str) -> str:
    try:
        coded_size(text, _LARGE_K)  # some batch can have so many; the run's own K is not known here
    except ValueError as error:
        sizes = f"{FEWEST} to {MOST}; write N=190 or N=1.5K"
        raise InputError(f"{option}={text} is not a number of coded inputs from {sizes}") from error
    return text.upper()


def _blocks(text: str, option: str) -> tuple[int, ...]:
    return tuple(sorted({read_number(part, option, count(0, 9999)) for part in text.split("+")}))


def _word(*words: str) -> "_Reader":
    def read(text: str, option: str) -> str:
        check_value(option, text, one_of(*words))
        return text

    return read


def _number(rule: Rule, kind: type = float) -> "_Reader":
    return lambda text, option: kind(read_number(text, option, rule))


_Reader = Callable[[str, str], Any]  # what is typed, and its option -> its value
_REQUIRED = object()
_SMOOTHING = _number(number(0, 1e9)), 0.0
_SHARE = _number(number(0, 1, above=True))
# Options: how each is read, and its value unless it is given.
_CODEC = {
    "N": (_coded_inputs, _REQUIRED),
    "blocks": (_blocks, None),  # numbers of blocks, 0+1+2
    "nodes": (_word("chebyshev", "uniform"), "chebyshev"),
    "order": (lambda text, option: int(_word("1", "3", "5")(text, option)), 3),
    "smoothing_encoder": _SMOOTHING,
    "smoothing_decoder": _SMOOTHING,
}
_OPTIONS: dict[str, dict[str, tuple[_Reader, Any]]] = {
    "standard": {},
    "coded": _CODEC,
    "rci": {"average": (_number(count(1, 10_000), int), 1), **_CODEC},
    "noise": {"sigma": (_number(number(0, 1e9, above=True)), _REQUIRED)},
    "resize-pad": {"scale": (_SHARE, 0.8)},
    "mixup-inference": {"share": (_SHARE, 0.5), "samples": (_number(count(1, 1000), int), 15)},
}
_EXAMPLES = {
    "noise": "noise:sigma=0.1",
    "resize-pad": "resize-pad:scale=0.8",
    "mixup-inference": "mixup-inference:share=0.5,samples=15",
}
# Every defence of the core, with one line on it.
DEFENCES = {
    "standard": "the network answers each input by itself",
    "coded": "coded inference without randomness (N=190; blocks=, nodes=, order=, smoothing_encoder=, ...)",
    "rci": "randomised coded inference (N=190 or N=1.5K; average=D and the options of coded)",
    "noise": "Gaussian input noise (sigma=0.1)",
    "resize-pad": "random resize and pad (scale=0.8, the smallest factor)",
    "mixup-inference": "mixup inference with other labels (share=0.5, samples=15)",
    "package.module:function": "your own, or file.py:function: called with the model, returns a defence or a "
    "module that samples",
    f"{PIPED} COMMAND": "a process that answers, in an environment of its own (docs/your-defence.md)",
}
