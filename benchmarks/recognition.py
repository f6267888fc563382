"""Is every network evaluated as what it is? A blind table of assemblies of known truth, half of them wrong.

Each network is given once as its file is, and once in a form that is wrong in one part without weights: the
activation, the shortcut or the normalisation, forced with ``--arch`` or ``--normalize``, or put together
that way by "the user's own code". A right one must be accepted as what it is, a wrong one refused.

    python benchmarks/recognition.py [FOLDER]

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
from recognition_networks import Network, networks, wrong_forms

from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import Recognition, recognise_network

HERE = Path(__file__).parent
SEED = 16


@dataclass(frozen=True)
class Row:
    """One assembly: how it was given, what was decided, and whether that is right."""

    network: str
    given: str
    wrong: bool
    taken_for: str
    refused: bool
    reason: str
    median: float | None
    right: bool
    seconds: float


def row(network: Network, given: str, arch: str | None, normalize: str | None, *, wrong: bool) -> Row:
    """Loads and recognises one assembly."""
    started = time.process_time()
    checkpoint = load_checkpoint(network.path, arch=arch, normalize=normalize)
    found = recognise_network(checkpoint, network.images, network.labels)
    refused = bool(found.contradictions)
    return Row(
        network=network.name,
        given=given,
        wrong=wrong,
        taken_for=str(found.chosen.candidate),
        refused=refused,
        reason=found.contradictions[0].split(";")[0] if refused else "",
        median=None if found.chosen.fingerprint is None else found.chosen.fingerprint.median,
        right=refused if wrong else not refused and _is_truth(found, network),
        seconds=time.process_time() - started,
    )


def _is_truth(found: Recognition, network: Network) -> bool:
    """Whether it answers as the true assembly does: 99.5% of the images alike, logits within a hundredth."""
    with torch.no_grad():
        ours, true = found.model(network.images[:512]), network.truth()(network.images[:512])
    alike = float((ours.argmax(1) == true.argmax(1)).double().mean())
    return alike >= 0.995 and float((ours - true).abs().mean()) <= 0.02 * float(true.abs().mean())


def rows(folder: Path) -> Iterator[Row]:
    """The table, a line at a time; what an earlier, stopped measurement found is taken from its folder."""
    generator = torch.Generator().manual_seed(SEED)
    stored = folder / "rows.jsonl"
    lines = stored.read_text().splitlines() if stored.exists() else []
    done = [Row(**json.loads(line)) for line in lines]
    for number, network in enumerate(networks(folder)):
        chance = float(torch.rand((), generator=generator))
        if len(done) >= 2 * number + 2:
            yield from done[2 * number : 2 * number + 2]
            continue
        forms = wrong_forms(network)
        given, arch, normalize = forms[int(chance * len(forms))]
        pair = [
            row(network, "as the file is", network.arch_given, None, wrong=False),
            row(network, given, arch, normalize, wrong=True),
        ]
        with stored.open("a") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in pair)
        yield from pair


def written(found: list[Row]) -> str:
    """The table in Markdown."""
    wrong, right = [r for r in found if r.wrong], [r for r in found if not r.wrong]
    accepted = [r for r in wrong if not r.right]
    refused = [r for r in right if r.refused]
    mistaken = [r for r in right if not r.refused and not r.right]
    lines = [
        "# Recognition of networks of known truth",
        "",
        f"{len(found)} assemblies: {len(right)} as they were trained, {len(wrong)} wrong in one part without "
        "weights. The wrong forms were drawn once, at random, from all that answer otherwise.",
        "",
        f"- wrong ones accepted: {len(accepted)} of {len(wrong)}",
        f"- right ones refused: {len(refused)} of {len(right)}; taken for something else: {len(mistaken)}",
        f"- processor seconds for one: median {median(r.seconds for r in found):.1f}, most "
        f"{max(r.seconds for r in found):.1f}",
        "",
        "`distance` is the median over the batch-norms of the divergence between what they remember and what "
        "they see, of the assembly that was decided on.",
        "",
        "| network | given | decision | distance | as it should be |",
        "| :-- | :-- | :-- | --: | :-- |",
    ]
    for r in found:
        decision = f"refused: {r.reason}" if r.refused else f"accepted as {r.taken_for}"
        distance = "" if r.median is None else f"{r.median:.4f}"
        lines.append(
            f"| {r.network} | {r.given} | {decision} | {distance} | {'yes' if r.right else '**no**'} |"
        )
    return "\n".join([*lines, ""]).replace("[", "\\[")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    found = []
    for one in rows(folder):
        found.append(one)
        verdict = "as it should be" if one.right else "WRONG"
        print(f"{verdict}: {one.network} | {one.given} | {one.taken_for} | {one.reason}", flush=True)
        (HERE / "recognition.md").write_text(written(found))


if __name__ == "__main__":
    main()
