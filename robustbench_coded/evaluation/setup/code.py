"""The user's code in an evaluation, as run.json has it and as ids of units depend on it."""

import json
from collections.abc import Mapping

from msgspec.structs import replace

from attacks.adapters.plugin import IN_MEMORY
from attacks.adapters.third_party import DISTRIBUTION
from attacks.adapters.user_modules import Code, digest_of, files_of, forget_changed
from attacks.attack import read_attack
from robustbench_coded.code_identity import code_in_memory, code_of_command
from robustbench_coded.defences.options import DEFENCES, GIVEN, PIPED, installed, parse_defence
from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import code_names
from robustbench_coded.schema.manifest import CodeFacts


def named_code(config: EvalConfig, in_memory: InMemory) -> dict[str, Code]:
    """The code that options name by text, by `code_names`; files that have changed are loaded anew."""
    codes: dict[str, Code] = {}
    files = [name for name, _ in config.checkpoints]
    if config.arch is not None:
        code = files_of(config.arch.rpartition(":")[0])
        codes |= {code_names(checkpoint)[0]: code for checkpoint in files}
    for spec in config.defences:
        code = _of_defence(spec)
        codes |= {code_names(checkpoint, spec)[1]: code for checkpoint in (*files, *in_memory.models)}
    for attack in map(read_attack, config.attack_names):
        module = attack.algorithm.rpartition(":")[0]
        package = DISTRIBUTION.get(attack.package or "", attack.package)
        if package and module != IN_MEMORY.__name__:
            codes[code_names("", "", str(attack))[2]] = files_of(module or package)
    for code in codes.values():
        forget_changed(code)
    return {name: code for name, code in codes.items() if code.parts or code.unknown}


def _of_defence(spec: str) -> Code:
    parsed = parse_defence(spec)
    target = parsed.target or ""
    if target.startswith(PIPED):
        return code_of_command(target.removeprefix(PIPED))
    if target:
        return files_of(target.rpartition(":")[0])
    extension = None if parsed.kind in DEFENCES else type(installed()[parsed.kind]).__module__
    code = files_of(extension or "")
    return Code({} if code.files else code.parts)  # of a package by its version


def code_in_hand(config: EvalConfig, in_memory: InMemory) -> dict[str, Code]:
    """The code of what is in memory, as it is now, by `code_names`."""
    codes = {
        code_names(name)[0]: code_in_memory(model, modes=False)  # it is asked in evaluation mode
        for name, model in in_memory.models.items()
        if not isinstance(model, DefenceAsModel)  # a defence, which counts as such
    }
    for name, defence in in_memory.defences.items():
        code = code_in_memory(defence)
        for checkpoint in (*(name for name, _ in config.checkpoints), *in_memory.models):
            codes[code_names(checkpoint, GIVEN + name)[1]] = code
    for attack in map(read_attack, config.attack_names):
        place, _, name = attack.algorithm.rpartition(":")
        if place == IN_MEMORY.__name__:
            codes[code_names("", "", str(attack))[2]] = code_in_memory(vars(IN_MEMORY)[name])
    return codes


def code_facts(codes: Mapping[str, Code], arrays: Mapping[str, Code], run: str) -> dict[str, CodeFacts]:
    """The code as run.json has it.

    Args:
        arrays: what defences hold when they are built, from whatever file it came.
        run: names this evaluation, where its outcomes are not those of another.
    """
    facts = {}
    for name in sorted({**codes, **arrays}):
        code, built = codes.get(name, Code({})), arrays.get(name, Code({}))
        parts = dict(sorted((code.parts | built.parts).items()))
        text = json.dumps([parts, *([code.unknown, run] if code.unknown else [])])
        if parts or code.unknown:
            facts[name] = CodeFacts(digest=digest_of(text.encode()), parts=parts, unknown=code.unknown)
    return facts


def after_use(known: Mapping[str, CodeFacts], now: Mapping[str, Code]) -> dict[str, CodeFacts]:
    """The same, with what has changed while the code ran, which is that code still."""
    return {
        name: replace(
            known[name], after={k: v for k, v in code.parts.items() if v != known[name].parts.get(k)}
        )
        for name, code in now.items()
        if name in known
    }
