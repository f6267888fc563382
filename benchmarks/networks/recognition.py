"""Is every network evaluated as what it is? A blind table of assemblies of known truth, half of them wrong.

Each network is given once as its file is, and once in a form that is wrong in one part without weights: the
activation, the shortcut, the pooling, strides and paddings, or the normalisation, forced with ``--arch`` and
``--normalize``. A right one must be accepted as what it is, or asked about. A wrong one is evaluated as
stated: it must be warned of. Networks without batch-norms have a table of their own: they are asked about.

    python benchmarks/networks/recognition.py [FOLDER [TABLE [SEED]]]

TABLE is ``recognition`` or ``recognition_alone``, those without batch-norms; ``both``, or without it, both
are measured. SEED draws the trainings and the wrong forms: where a table was followed by a change of the
rules, the next one needs another seed.
FOLDER (default: a temporary one) keeps the quick networks that it trains, and the lines, so that a stopped
measurement goes on. CIFAR-10 and the networks of
../shared take part where they are beside the checkout.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.networks.recognition_networks import Network, WrongForm, networks, networks_alone, wrong_forms
from robustbench_coded.models.candidates import Assembly
from robustbench_coded.models.loading import Checkpoint, load_checkpoint
from robustbench_coded.models.recognition import Recognition, recognise_network

HERE = Path(__file__).parent
SEED = 22
ALIKE = 0.95  # of answers: what labels need not tell apart
TABLES = {"recognition": networks, "recognition_alone": networks_alone}


@dataclass(frozen=True)
class Row:
    """One assembly: how it was given, what was decided, and whether that is right."""

    network: str
    given: str
    wrong: bool
    taken_for: str
    doubted: bool  # warned of, or not evaluated
    asked: bool  # because nothing decides what it is
    reason: str
    median: float | None
    right: bool
    seconds: float
    same_answers: float = 1.0  # the share of 512 images that it answers as the network was trained to
    alone: bool = False  # without batch-norms


def row(network: Network, given: str, arch: str | None, normalize: str | None, *, wrong: bool) -> Row:
    """Loads and recognises one assembly."""
    started = time.process_time()
    checkpoint = load_checkpoint(network.path, arch=arch, normalize=normalize)
    found = recognise_network(checkpoint, network.images, network.labels)
    seconds = time.process_time() - started
    doubts = [*filter(None, [found.refusal]), *found.warnings]
    doubted, asked = bool(doubts), found.question is not None
    same, is_truth = _compared(checkpoint, found, network)
    return Row(
        network=network.name,
        given=given,
        wrong=wrong,
        taken_for=str(found.candidate),
        doubted=doubted,
        asked=asked,
        reason=doubts[0].split(";")[0] if doubted else "",
        median=None if found.batch_norms is None else found.batch_norms.fingerprint.median,
        right=doubted if wrong else asked or (not doubted and is_truth),
        seconds=seconds,
        same_answers=same,
        alone=network.alone,
    )


def _compared(checkpoint: Checkpoint, found: Recognition, network: Network) -> tuple[float, bool]:
    """The share of images that it answers as the true assembly does, and whether it is that one.

    It is where 99.5% of the answers are alike and logits differ by a fiftieth at most, on the mean.
    """
    with torch.no_grad():
        assembly = Assembly(checkpoint, network.images[:512], None, torch.device("cpu"))
        ours, true = assembly.model(found.candidate)(assembly.images), network.truth()(assembly.images)
    alike = float((ours.argmax(1) == true.argmax(1)).double().mean())
    near = float((ours - true).abs().mean()) <= 0.02 * float(true.abs().mean())
    return alike, alike >= 0.995 and near


def rows(folder: Path, table: str, seed: int) -> Iterator[Row]:
    """One of TABLES, a line at a time; what a stopped measurement found is taken from its folder."""
    generator = torch.Generator().manual_seed(seed)
    stored = folder / f"{table}.jsonl"
    lines = stored.read_text().splitlines() if stored.exists() else []
    done = [Row(**json.loads(line)) for line in lines]
    for number, network in enumerate(TABLES[table](folder, seed)):
        chance = float(torch.rand((), generator=generator))
        if len(done) >= 2 * number + 2:
            yield from done[2 * number : 2 * number + 2]
            continue
        form = _drawn(wrong_forms(network), chance, by_part=network.alone)
        pair = [
            row(network, "as the file is", network.arch_given, None, wrong=False),
            row(network, form.given, form.arch, form.normalize, wrong=True),
        ]
        with stored.open("a") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in pair)
        yield from pair


def _drawn(forms: list[WrongForm], chance: float, *, by_part: bool) -> WrongForm:
    """One of the wrong forms; ``by_part``: every part is as likely, however many forms it has."""
    groups = [forms]
    if by_part:
        parts = dict.fromkeys(form.part for form in forms)
        groups = [[form for form in forms if form.part == part] for part in parts]
    group = groups[int(chance * len(groups))]
    return group[int(chance * len(groups) % 1 * len(group))]


def written(found: list[Row]) -> str:
    """The table in Markdown."""
    wrong, right = [r for r in found if r.wrong], [r for r in found if not r.wrong]
    accepted = [r for r in wrong if not r.right and r.same_answers < ALIKE]
    near = [r for r in wrong if not r.right and r.same_answers >= ALIKE]
    asked = [r for r in right if r.asked]
    doubted = [r for r in right if r.doubted and not r.asked]
    mistaken = [r for r in right if not r.doubted and not r.right]
    lines = [
        "# Recognition of networks of known truth" + (", without batch-norms" if found[0].alone else ""),
        "",
        f"{len(found)} assemblies: {len(right)} as they were trained, {len(wrong)} wrong in one part without "
        "weights. The wrong forms were drawn once, at random, from all that answer otherwise.",
        "",
        f"- wrong ones accepted without warning: {len(accepted)} of {len(wrong)}; besides, {len(near)} that "
        f"give at least {ALIKE:.0%} of the true one's answers",
        f"- right ones asked about: {len(asked)} of {len(right)}; doubted: {len(doubted)}; taken for "
        f"something else: {len(mistaken)}",
        f"- processor seconds for one: median {median(r.seconds for r in found):.1f}, most "
        f"{max(r.seconds for r in found):.1f}",
        "",
        "`alike` is the share of 512 images that the assembly which was decided on answers as the one that "
        "was trained; `distance` the median over the batch-norms of the divergence between what they "
        "remember and what they see.",
        "",
        "| network | given | decision | alike | distance | as it should be |",
        "| :-- | :-- | :-- | --: | --: | :-- |",
    ]
    for r in found:
        word = "asked" if r.asked else "doubted"
        decision = f"{word}: {r.reason}" if r.doubted else f"accepted as {r.taken_for}"
        distance = "" if r.median is None else f"{r.median:.4f}"
        lines.append(
            f"| {r.network} | {r.given} | {decision} | {r.same_answers:.1%} | {distance} | "
            f"{'yes' if r.right else '**no**'} |"
        )
    return "\n".join([*lines, ""]).replace("[", "\\[")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else SEED
    for table in TABLES if "both" in (sys.argv[2:3] or ["both"]) else sys.argv[2:3]:
        found = []
        for one in rows(folder, table, seed):
            found.append(one)
            verdict = "as it should be" if one.right else "WRONG"
            print(f"{verdict}: {one.network} | {one.given} | {one.taken_for} | {one.reason}", flush=True)
            (HERE / f"{table}.md").write_text(written(found))


if __name__ == "__main__":
    main()
