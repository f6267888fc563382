"""How far the nearest wrong answer is that minimal-norm attacks find: ours, adversarial-library's, foolbox's.

    python benchmarks/peers/nearest_parity.py --shared DIR --data-dir DIR --runs DIR [--only NAME ...]

Writes benchmarks/peers/nearest_parity.md. Every attack has as many passes (images forwarded or
differentiated) as its steps cost ours: 2 a step. foolbox and adv-lib are no dependencies:
`benchmarks/peers/league.sh` installs them in an environment of their own, in which this runs. ``--runs``
keeps what was measured.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attacks.norms import Norm
from benchmarks.bench.table import pipes
from benchmarks.peers.league_networks import CIFAR10, SHARED, Network, Sources
from benchmarks.peers.sparse import Counted, pixels
from robustbench_coded import attack
from robustbench_coded.data.registry import load_data
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).with_suffix(".md")
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
ORDERS = {"linf": inf, "l2": 2.0, "l1": 1.0, "l0": 0}
STEPS = (50, 200)
FEW, MANY = 48, 200  # images of a ResNet-20: of the first round and of the second
CLOSE = 1.02
FINALISTS = 2  # attacks of a library in the first round; of ours and of all others in the second
OURS = "csrobust"
Run = Callable[[nn.Module, Tensor, Tensor, Norm, int], Tensor]  # network, x, y, norm, steps


@dataclass(frozen=True)
class Trained:
    """A linear model, or one with two hidden layers, trained on digits within a second."""

    name: str
    hidden: tuple[int, ...]
    examples: int = 200

    def load(self, sources: Sources) -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(0)
        sizes = (64, *self.hidden, 10)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        network = nn.Sequential(*layers[:-1])
        taught = load_data("digits", split="train")
        x, y = taught.batch(range(len(taught)))
        optimiser = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(200):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimiser.step()
        return network.eval().requires_grad_(False), *load_data("digits").batch(range(self.examples))


@dataclass(frozen=True)
class Stored:
    """A checkpoint of the league, on its first examples.

    Attributes:
        choice: which attacks run: all, ``few`` (see ``_finalists``), or those that ``decide`` after these.
    """

    network: Network
    examples: int = 200
    choice: Literal["all", "few", "decide"] = "all"

    @property
    def name(self) -> str:
        return self.network.name + (f" ({self.examples})" if self.choice == "decide" else "")

    def load(self, sources: Sources) -> tuple[nn.Module, Tensor, Tensor]:
        given = Sources(sources.shared, sources.cifar10, self.examples)
        return self.network.plain(given)


def _of_checkpoint(name: str, data: str, folder: str = "checkpoints", kind: str = "safetensors") -> Network:
    return Network(name, f"{folder}/{name}.{kind}", data, 0.0)


SUBJECTS = (
    Trained("linear", ()),
    Trained("mlp", (64, 64)),
    Stored(_of_checkpoint("mnist-fgsm", "mnist", "{shared}/checkpoints", "pth")),
    Stored(_of_checkpoint("mnist-pgd-madry", "mnist", "{shared}/checkpoints", "pth")),
    *(
        Stored(_of_checkpoint(name, "cifar10"), examples, choice)
        for examples, choice in ((FEW, "few"), (MANY, "decide"))
        for name in ("cifar10-erm-resnet20", "cifar10-pgd-at-resnet20")
    ),
)


def _ours(name: str) -> Run:
    def run(network: nn.Module, x: Tensor, y: Tensor, norm: Norm, steps: int) -> Tensor:
        values = x[0].numel()
        box = {"linf": 1.0, "l2": values**0.5, "l1": float(values), "l0": values // x.shape[1]}[norm]
        return attack(network, x, y, f"{name}-{steps}", box, norm=norm, seed=0)

    return run


def _adv_lib(name: str, **options: Callable[[Norm, int], object]) -> Run:
    def run(network: nn.Module, x: Tensor, y: Tensor, norm: Norm, steps: int) -> Tensor:
        from adv_lib import attacks

        torch.manual_seed(0)
        given = {option: value(norm, steps) for option, value in options.items()}
        found: Tensor = getattr(attacks, name)(network, x, y, **given)
        return found.detach()

    return run


def _foolbox(name: str, **options: Callable[[int], object]) -> Run:
    def run(network: nn.Module, x: Tensor, y: Tensor, norm: Norm, steps: int) -> Tensor:
        import foolbox

        torch.manual_seed(0)
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        given = {option: value(steps) for option, value in options.items()}
        found: Any = getattr(foolbox.attacks, name)(**given)(model, x, y, epsilons=None)[1]
        return found.detach()

    return run


def _order(norm: Norm, steps: int) -> float:
    return ORDERS[norm]


def _all(norm: Norm, steps: int) -> int:
    return steps


def _part(divisor: float) -> Callable[[Norm, int], int]:
    return lambda norm, steps: max(1, int(steps / divisor))


# Library, attack, the norms that it knows, and how it runs. What costs more than a pass forward and one
# backward a step has fewer steps: the gradient of every class, or several searches one after the other.
ATTACKS: tuple[tuple[str, str, tuple[Norm, ...], Run], ...] = (
    (OURS, "fab", NORMS[:3], _ours("fab")),
    (OURS, "fmn", NORMS, _ours("fmn")),
    (OURS, "pdpgd", NORMS[:3], _ours("pdpgd")),
    (OURS, "sigma-zero", ("l0",), _ours("sigma-zero")),
    ("adv-lib", "fmn", NORMS, _adv_lib("fmn", norm=_order, steps=_all)),
    ("adv-lib", "pdpgd", NORMS, _adv_lib("pdpgd", norm=_order, num_steps=_all)),
    ("adv-lib", "pdgd", ("l2",), _adv_lib("pdgd", num_steps=_all)),
    ("adv-lib", "ddn", ("l2",), _adv_lib("ddn", steps=_all)),
    ("adv-lib", "alma", ("l2", "l1"), _adv_lib("alma", distance=lambda norm, _: norm, num_steps=_all)),
    ("adv-lib", "fab", NORMS[:3], _adv_lib("fab", norm=_order, n_iter=_part(5.5))),
    ("adv-lib", "df", ("linf", "l2"), _adv_lib("df", norm=_order, steps=_part(5.5))),
    ("adv-lib", "tr", ("linf", "l2"), _adv_lib("tr", p=_order, iter=_part(2.5))),
    (
        "adv-lib",
        "carlini_wagner_l2",
        ("l2",),
        _adv_lib(
            "carlini_wagner_l2",
            max_iterations=_part(5),
            binary_search_steps=lambda *_: 5,
            learning_rate=lambda *_: 0.1,
            initial_const=lambda *_: 1.0,
        ),
    ),
    ("adv-lib", "sigma_zero", ("l0",), _adv_lib("sigma_zero", num_steps=_all)),
    ("adv-lib", "vfga", ("l0",), _adv_lib("vfga", max_iter=_part(4), targeted=lambda *_: False)),
    ("foolbox", "L2FMNAttack", ("l2",), _foolbox("L2FMNAttack", steps=int)),
    ("foolbox", "LInfFMNAttack", ("linf",), _foolbox("LInfFMNAttack", steps=int)),
    ("foolbox", "L1FMNAttack", ("l1",), _foolbox("L1FMNAttack", steps=int)),
    ("foolbox", "L0FMNAttack", ("l0",), _foolbox("L0FMNAttack", steps=int)),
    ("foolbox", "DDNAttack", ("l2",), _foolbox("DDNAttack", steps=int)),
    (
        "foolbox",
        "EADAttack",
        ("l1",),
        _foolbox(
            "EADAttack",
            steps=lambda steps: steps // 5,
            binary_search_steps=lambda _: 5,
            initial_stepsize=lambda _: 0.1,
            initial_const=lambda _: 1.0,
            decision_rule=lambda _: "L1",
        ),
    ),
)
ABOUT = """# Minimal-norm attacks beside adversarial-library's and foolbox's

The median distance of the wrong answers found, over images that are answered correctly (none found counts as
infinitely far); in brackets the share of images with one; then the optimality of arXiv 2404.19460 in percent:
the area between the attack's curve of accuracy over eps and that of the best of all in the cell, image by
image, as a share of what lies between the latter and no attack at all, taken from 100.

Every attack has the passes of 50 or 200 steps of ours, 2 an image and step. In l0 a pixel's channels count as
one, whatever the attack itself counts. Other options are the defaults, but for the searches of C&W and EAD,
whose defaults need thousands of steps. adv-lib's SuperDeepFool is left out: its passes cannot be limited.
adv-lib {advlib}, foolbox {foolbox}.

On ResNet-20, without and with adversarial training, ours ran on the first {few} images, and of each other
library the two attacks that are nearest to the best on average over the other networks, in the same norm and
at the same steps; then, of ours and of the others, the two with the smallest medians on {many} images, as
elsewhere. A cell's images are those answered correctly; fewer than {few} are of the first round alone. Empty
cells were not measured. Left out of both rounds:

{left_out}

The last column of the first table is the median over images of the ratio of two distances, ours to the best
of the others.

"""


@dataclass(frozen=True)
class Found:
    """Attributes: distances: of each image, inf where no wrong answer was found; passes: a mean per image."""

    library: str
    name: str
    distances: Tensor
    passes: float
    note: str = ""

    @property
    def median(self) -> float:
        return float(self.distances.sort().values[(len(self.distances) - 1) // 2])

    @property
    def share(self) -> float:
        return float(self.distances.isfinite().double().mean())

    def optimality(self, best: Tensor) -> float:
        """1 for the ``best`` distances, 0 for none found; no curve counts beyond the furthest of ``best``."""
        end = best[best.isfinite()].max()
        own, least = self.distances.clamp(max=end).mean(), best.clamp(max=end).mean()
        return float(1 - (own - least) / (end - least).clamp(min=1e-12))


Table = dict[tuple[str, Norm, int], list[Found]]  # by network, norm and steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--data-dir", type=Path, default=CIFAR10)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--norms", nargs="*", default=NORMS)
    parser.add_argument("--steps", nargs="*", type=int, default=STEPS)
    parser.add_argument("--again", nargs="*", default=(), help="Our attacks to measure once more.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.runs.mkdir(parents=True, exist_ok=True)
    table: Table = {}
    for subject in SUBJECTS:
        wanted = not given.only or subject.name in given.only
        loaded = _answered(subject.load(Sources(given.shared, given.data_dir))) if wanted else None
        for norm, steps in ((norm, steps) for norm in NORMS for steps in STEPS):
            chosen = _chosen(table, subject, norm, steps)
            for library, name, norms, run in ATTACKS:
                if norm not in norms or (library, name) not in chosen:
                    continue
                kept = given.runs / f"{subject.name}-{norm}-{steps}-{library}-{name}.pt"
                again = library == OURS and name in given.again
                asked = norm in given.norms and steps in given.steps
                if loaded is not None and asked and (again or not kept.exists()):
                    found = _measured(*loaded, norm, steps, library, name, run)
                    torch.save(vars(found), kept)
                    said = f"{found.median:.4g} {found.share:.0%} {found.passes:.0f} passes {found.note}"
                    print(subject.name, norm, steps, library, name, said, flush=True)
                if kept.exists():
                    table.setdefault((subject.name, norm, steps), []).append(Found(**torch.load(kept)))
            if isinstance(subject, Stored) and subject.choice == "decide":
                found_now = table.pop((subject.name, norm, steps), [])
                if len(found_now) == len(chosen):
                    table[subject.network.name, norm, steps] = found_now
    write_text(OUT, _page(table))


def _answered(loaded: tuple[nn.Module, Tensor, Tensor]) -> tuple[nn.Module, Tensor, Tensor]:
    """The network with the images that it answers correctly."""
    network, x, y = loaded
    right = network(x).argmax(1) == y
    return network, x[right], y[right]


def _measured(
    network: nn.Module, x: Tensor, y: Tensor, norm: Norm, steps: int, library: str, name: str, run: Run
) -> Found:
    counted, note = Counted(network).eval(), ""
    try:
        found = run(counted, x.clone(), y.clone(), norm, steps)
    except Exception as error:  # a library may fail on a network
        found, note = x, f"{type(error).__name__}: {error}"[:100]
    with torch.no_grad():
        inside = ((found >= 0) & (found <= 1)).flatten(1).all(1)
        wrong = inside & (network(found).argmax(1) != y)
    if norm == "l0":
        length = pixels(found, x).float()
    else:
        length = torch.linalg.vector_norm((found - x).flatten(1), ord=ORDERS[norm], dim=1)
    return Found(library, name, torch.where(wrong, length, inf), counted.passes / len(x), note)


def _chosen(table: Table, subject: Trained | Stored, norm: Norm, steps: int) -> set[tuple[str, str]]:
    """The attacks, by library and name, that run in a cell; none without the rounds before it."""
    known = {(library, name) for library, name, _, _ in ATTACKS}
    if not isinstance(subject, Stored) or subject.choice == "all":
        return known
    if subject.choice == "few":
        return {each for each in known if each[0] == OURS} | _finalists(table, norm, steps)
    before = sorted(table.get((subject.network.name, norm, steps), []), key=lambda one: one.median)
    ours, others = ([one for one in before if (one.library == OURS) == own] for own in (True, False))
    return {(one.library, one.name) for one in ours[:FINALISTS] + others[:FINALISTS]}


def _finalists(table: Table, norm: Norm, steps: int) -> set[tuple[str, str]]:
    """Of each library those whose mean optimality is largest at these steps, on the networks that ran all."""
    slow = [subject.name for subject in SUBJECTS if isinstance(subject, Stored) and subject.choice != "all"]
    shares: dict[tuple[str, str], list[float]] = {}
    for (network, *cell), found in table.items():
        if cell == [norm, steps] and network not in slow:
            best = _best(found)
            for one in found:
                shares.setdefault((one.library, one.name), []).append(one.optimality(best))
    ranked = sorted(shares, key=lambda pair: -sum(shares[pair]))
    return {
        pair
        for library in {library for library, _ in shares}
        for pair in [each for each in ranked if each[0] == library][:FINALISTS]
    }


def _best(found: list[Found]) -> Tensor:
    """The least distance of each image, over attacks."""
    return torch.stack([one.distances for one in found]).amin(0)


def _page(table: Table) -> str:
    standings = list(_standings(table))
    head = (
        "network",
        "norm",
        "steps",
        "images",
        "ours",
        "best of adv-lib",
        "best of foolbox",
        "ours / best",
        "image by image",
    )
    beyond = [row for row in standings if float(row[-2]) > CLOSE]
    lines = [pipes([head, *standings])]
    within = len(standings) - len(beyond)
    lines.append(f"\nOurs is within 2% of the best of all in {within} of {len(standings)} cells.")
    if beyond:
        lines.append("Not in: " + "; ".join(f"{', '.join(row[:3])} ({row[-2]})" for row in beyond) + ".")
    lines.append("")
    for norm in NORMS:
        cells = {key[::2]: found for key, found in table.items() if key[1] == norm}
        names = dict.fromkeys((one.library, one.name) for found in cells.values() for one in found)
        rows = [("library", "attack", *(f"{network}, {steps}" for network, steps in cells))]
        for library, name in sorted(names, key=lambda pair: pair[0] != OURS):
            row = [library, name]
            for found in cells.values():
                best = _best(found)
                own = [one for one in found if (one.library, one.name) == (library, name)]
                row.append(f"{_cell(own[0])} {100 * own[0].optimality(best):.0f}" if own else "")
            rows.append(tuple(row))
        if len(rows) > 1:
            lines.append(f"## {norm}\n\n{pipes(rows)}\n")
    about = ABOUT.format(
        advlib=version("adv-lib"), foolbox=version("foolbox"), few=FEW, many=MANY, left_out=_left_out(table)
    )
    return about + "\n".join(lines)


def _left_out(table: Table) -> str:
    """Which attacks of other libraries no slow network saw, by norm and steps."""
    lines = []
    for norm, steps in ((norm, steps) for norm in NORMS for steps in STEPS):
        known = {(library, name) for library, name, norms, _ in ATTACKS if norm in norms and library != OURS}
        out = sorted(f"{library} {name}" for library, name in known - _finalists(table, norm, steps))
        lines.append(f"- {norm}, {steps}: {', '.join(out)}")
    return "\n".join(lines)


def _cell(one: Found) -> str:
    return f"{one.median:.4g} ({100 * one.share:.0f}%)"


def _standings(table: Table) -> Iterator[tuple[str, ...]]:
    for (network, norm, steps), found in table.items():
        best: dict[str, Found] = {}
        for one in found:
            if one.library not in best or one.median < best[one.library].median:
                best[one.library] = one
        libraries = (OURS, "adv-lib", "foolbox")
        cells = (f"{_cell(best[each])} {best[each].name}" if each in best else "" for each in libraries)
        other = min((one for each, one in best.items() if each != OURS), key=lambda one: one.median)
        if other.median == inf:
            continue
        ratio = f"{best[OURS].median / other.median:.3f}"
        yield (
            network,
            norm,
            str(steps),
            str(len(other.distances)),
            *cells,
            ratio,
            f"{_paired(best[OURS], other):.3f}",
        )


def _paired(one: Found, other: Found) -> float:
    """The median over images of a ratio of distances; 1 where neither found a wrong answer."""
    ratios = torch.where(one.distances == other.distances, 1.0, one.distances / other.distances)
    return float(ratios.sort().values[(len(ratios) - 1) // 2])


if __name__ == "__main__":
    main()
