"""The user's code in an evaluation, as run.json has it and as ids of units depend on it."""

import json
from collections.abc import Mapping
from typing import Any

from attacks import naming
from attacks.adapters.plugin import IN_MEMORY
from attacks.adapters.third_party import DISTRIBUTION
from attacks.adapters.user_modules import Code, digest_of, files_of, forget_changed
from robustbench_coded.code_identity import ARRAYS, code_in_memory, code_of_command
from robustbench_coded.defences.options import DEFENCES, GIVEN, PIPED, installed, parse_defence
from robustbench_coded.evaluation.execution.in_memory import Alone, InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import code_names
from robustbench_coded.schema.manifest import CodeFacts


def named_code(config: EvalConfig, in_memory: InMemory) -> dict[str, Code]:
    """The code that options name by text, by `code_names`; files that have changed are loaded anew."""
    found: dict[str, Code] = {}
    files = [name for name, _ in config.checkpoints]
    if config.arch is not None:
        code = files_of(config.arch.rpartition(":")[0])
        found |= {code_names(checkpoint)[0]: code for checkpoint in files}
    for spec in config.defences:
        code = _of_defence(spec)
        found |= {code_names(checkpoint, spec)[1]: code for checkpoint in (*files, *in_memory.models)}
    for attack in config.attacks:
        name = naming.parse(attack)
        place = name.algorithm.rpartition(":")[0] or DISTRIBUTION.get(
            name.third_party or "", name.third_party
        )
        if name.third_party is not None and place != IN_MEMORY.__name__:
            found[code_names("", "", attack)[2]] = files_of(place or "")
    for code in found.values():
        forget_changed(code)
    return {name: code for name, code in found.items() if code.parts or code.unknown}


def _of_defence(spec: str) -> Code:
    parsed = parse_defence(spec)
    target = parsed.target or ""
    if target.startswith(PIPED):
        return code_of_command(target.removeprefix(PIPED))
    if target:
        return files_of(target.rpartition(":")[0])
    extension = None if parsed.kind in DEFENCES else type(installed()[parsed.kind]).__module__
    found = files_of(extension or "")
    return Code({} if found.files else found.parts)  # of a package by its version


def code_in_hand(config: EvalConfig, in_memory: InMemory) -> dict[str, Code]:
    """The code of what is in memory, as it is now, by `code_names`."""
    found = {
        code_names(name)[0]: code_in_memory(model, name, modes=False)  # it is asked in evaluation mode
        for name, model in in_memory.models.items()
        if not isinstance(model, Alone)  # a defence, which counts as such
    }
    for name, defence in in_memory.defences.items():
        code = code_in_memory(defence, name)
        for checkpoint in (*(name for name, _ in config.checkpoints), *in_memory.models):
            found[code_names(checkpoint, GIVEN + name)[1]] = code
    for attack in config.attacks:
        place, _, name = naming.parse(attack).algorithm.rpartition(":")
        if place == IN_MEMORY.__name__:
            found[code_names("", "", attack)[2]] = code_in_memory(vars(IN_MEMORY)[name], name)
    return found


def code_facts(codes: Mapping[str, Code], arrays: Mapping[str, Code], run: str) -> dict[str, CodeFacts]:
    """What run.json says of it.

    Args:
        arrays: what defences hold when they are built, from whatever file it came.
        run: names this evaluation, where its outcomes are not those of another.
    """
    facts = {}
    for name in sorted({**codes, **arrays}):
        code = codes.get(name, Code({}))
        parts = dict(sorted((code.parts | (arrays[name].parts if name in arrays else {})).items()))
        said: list[Any] = [parts, *([code.unknown, run] if code.unknown else [])]
        facts[name] = CodeFacts(
            digest=digest_of(json.dumps(said).encode()), parts=parts, unknown=code.unknown
        )
    return {name: one for name, one in facts.items() if one.parts or one.unknown}


def after_use(known: Mapping[str, CodeFacts], now: Mapping[str, Code]) -> dict[str, CodeFacts]:
    """The same, with nothing of the parts that changed while the code ran: counters, caches."""
    return {
        name: CodeFacts(
            digest=one.digest,
            unknown=one.unknown,
            parts=one.parts
            | {
                part: ""
                for part in {**now[name].parts, **one.parts}
                if part != ARRAYS and now[name].parts.get(part) != one.parts.get(part)
            },
        )
        for name, one in known.items()
        if name in now
    }
