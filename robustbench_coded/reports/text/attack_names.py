"""Attacks as authors write them, for tables of papers and sentences."""

from attacks.attack import BITS, LEVELS, Package, Submitted
from robustbench_coded.reports.text.formatting import INFERENCE, parsed_attack
from robustbench_coded.schema.words import RANDOM_SIGN, STANDARD

# First words of names that are no proper names.
_WORDS = ("Transfer ", "Aware ", "Fixed ", "Surrogate ", "Relaxed ", "Random ")
_OPTIONS = {"loss": "{} loss", "momentum": "momentum", "restarts": "{} restarts", "init": "started from {}"}


def paper_name(attack: str) -> str:
    """``EOT-10 PGD-20 (margin loss)`` for ``eot10-pgd-20+loss=margin``.

    Attacks of other packages and of users keep their names.
    """
    named = parsed_attack(attack)
    if named is None or isinstance(named, Submitted):
        return "Random signs" if attack == RANDOM_SIGN else attack[:1].upper() + attack[1:]
    if isinstance(named, Package):
        return attack
    knowledge = {"fresh": "", "bpda": "BPDA "}.get(named.knows, f"{named.knows.capitalize()} ")
    if named.eot is not None:
        knowledge = f"EOT-{named.eot} "
    algorithm = named.declared.authors
    steps = f"-{named.steps}" if named.steps else ""
    size = attack.partition("+")[0].partition("@")[2]
    parts = [f"step {size}"] if size else []
    for option, value in named.options:
        shown = attack_in_words(value) if option == "init" else value
        parts.append(_OPTIONS.get(option, f"{option} {{}}").format(shown))
    bracket = f" ({', '.join(parts)})" if parts else ""
    return f"{'Relaxed ' if named.relaxed else ''}{knowledge}{algorithm}{steps}{bracket}"


def attack_in_words(attack: str) -> str:
    """``PGD-100 in 8 bits, made against RCI (N = 128)`` for perturbed inputs that are submitted; else as
    `paper_name`.
    """
    named = parsed_attack(attack)
    if not isinstance(named, Submitted):
        text = paper_name(attack)
        return text[:1].lower() + text[1:] if text.startswith(_WORDS) else text
    defence, _, size = named.subject.partition(":N=")
    sized = f" (N = {size})" if size else ""
    kind = "standard inference" if defence == STANDARD else INFERENCE.get(defence, defence)
    made = "the worst of several attacks" if named.attack is None else attack_in_words(str(named.attack))
    changed = "".join(f" in {value} {option}" for option, value in named.options if option in (BITS, LEVELS))
    return f"{made}{changed}, made against {kind}{sized}"
