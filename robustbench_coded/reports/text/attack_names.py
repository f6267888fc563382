"""Attacks as authors write them, for tables of papers and sentences."""

from collections.abc import Iterable, Sequence

from attacks.attack import BITS, LEVELS, Attack, Package, Submitted
from robustbench_coded.reports.text.formatting import INFERENCE, parsed_attack, pixels
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.words import ENSEMBLE, RANDOM_SIGN, STANDARD, STRONGEST

# First words of names that are no proper names.
_WORDS = ("Transfer ", "Fixed ", "Relaxed ", "Random ")
_OPTIONS = {"loss": "{} loss", "momentum": "momentum", "restarts": "{} restarts", "init": "started from {}"}


def draw_word(subjects: Iterable[Subject]) -> str:
    """``order`` if an attacker who knows their draws knows the order of a batch (RCI), else ``draw``."""
    kinds = {subject.defence.partition("[")[0] == "rci" for subject in subjects}
    return (
        " or ".join(word for word, of_rci in (("order", True), ("draw", False)) if of_rci in kinds) or "draw"
    )


def paper_name(attack: str, draw: str = "draw") -> str:
    """``EOT-PGD-20 (10 draws, margin loss)`` for ``eot10-pgd-20+loss=margin``; ``PGD-10, draw known`` for
    ``aware-pgd-10``.

    Attacks of other packages and of users keep their names.

    Args:
        draw: what an attacker who knows the draw knows (`draw_word`).
    """
    named = parsed_attack(attack)
    if named is None or isinstance(named, Submitted):
        own = {RANDOM_SIGN: "Random signs", ENSEMBLE: "Worst case"}
        return own.get(attack) or attack[:1].upper() + attack[1:]
    if isinstance(named, Package):
        return attack
    known = {"fresh": "", "aware": "", "bpda": "BPDA "}.get(named.knows, f"{named.knows.capitalize()} ")
    averaged = "" if named.eot is None else "EOT-"
    steps = f"-{named.steps}" if named.steps else ""
    size = attack.partition("+")[0].partition("@")[2]
    parts = [f"{named.eot} draws"] if averaged else []
    parts += [f"step {size}"] if size else []
    for option, value in named.options:
        shown = attack_in_words(value) if option == "init" else value
        parts.append(_OPTIONS.get(option, f"{option} {{}}").format(shown))
    bracket = f" ({', '.join(parts)})" if parts else ""
    name = f"{'Relaxed ' if named.relaxed else ''}{known}{averaged}{named.declared.authors}{steps}{bracket}"
    return f"{name}, {draw} known" if named.knows == "aware" else name


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


def attack_text(name: str, step_sizes: Sequence[float] = ()) -> str:
    """``PGD-10: projected gradient descent; step size 2/255``: its name in words, and what it does."""
    attack = parsed_attack(name)
    about = _CONTROLS_AND_COMBINED.get(name) or (
        attack.declared.sentence if isinstance(attack, Attack) else ""
    )
    sizes = [f"step size {' or '.join(pixels(size) for size in step_sizes)}"] if step_sizes else []
    smooth = (
        ["smooth backward pass for operators that hide the gradient"] if attack and attack.relaxed else []
    )
    return f"{paper_name(name)}: {'; '.join(filter(None, (about, *sizes, *smooth)))}".removesuffix(": ")


_CONTROLS_AND_COMBINED = {
    RANDOM_SIGN: "plus or minus eps at random in each pixel (in l0: eps pixels black or white), no gradients",
    STRONGEST: "the one attack that is lowest over the entire run",
    ENSEMBLE: "for each example or batch the attack that is lowest on selection draws, scored on other draws",
}
