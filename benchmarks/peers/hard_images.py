"""Images that gradient attacks fail on, and whose truth is known: what `csrobust eval` finds of them.

    python benchmarks/peers/hard_images.py --shared DIR FOLDER        writes hard_images.md

DIR has `hard` (a network and 20 images that its authors' solver broke) and `data/mnist`. Two networks more
are trained here; of each the 20 images on which PGD-100 fails by least are taken, and their truth is that
of a mixed-integer program. Checkpoints, images and runs go into FOLDER, which a stopped measurement goes on
with.
"""

import argparse
import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors.coverage import write
from benchmarks.peers.exact_margins import digits, least_margin, trained
from benchmarks.smoke import smoke
from robustbench_coded import attack
from robustbench_coded.judge.run import load_run
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.runs.atomic import write_text

PAGE = Path(__file__).with_suffix(".md")
OWN = {"784-20-20-10": ((20, 20), 0.06), "784-40-10": ((40,), 0.06)}  # widths, and eps
IMAGES = 20
COMMANDS = {"plain": (), "aa": ("--attacks", "aa"), "full": ("--attacks", "full")}


def lead(model: PixelModel, x: Tensor, y: Tensor) -> Tensor:
    """By how much the right answer leads, [n]."""
    logits = model(x).detach().double()
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def own_network(name: str, mnist: Path, folder: Path) -> None:
    """Trains a network and keeps it beside its 20 images and their exact least margins."""
    widths, eps = OWN[name]
    x, y = digits(mnist)
    model = trained(widths, x[:-1000], y[:-1000], name)
    right = model(x[-1000:]).argmax(1) == y[-1000:]
    x, y = x[-1000:][right], y[-1000:][right]
    left = lead(model, attack(model, x, y, "pgd-100", eps, seed=0, early_stop=True), y)
    left[left <= 0] = torch.inf
    near = left.argsort()[:IMAGES]
    low, high = (x.double() - eps).clamp(0, 1), (x.double() + eps).clamp(0, 1)
    least = [least_margin(model, low[i], high[i], int(y[i])) for i in near.tolist()]
    torch.save(model.network.state_dict(), folder / f"{name}.pt")
    pixels = (x[near] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(folder / f"{name}.npz", x=pixels, y=y[near].numpy())
    write_text(folder / f"{name}.json", json.dumps({"eps": eps, "least": least}))


def measured(folder: Path, name: str, checkpoint: Path, images: Path, eps: float, how: str) -> dict[str, Any]:
    """One run of the command: which images stand, and seconds of processor time an image."""
    out = folder / f"{name}-{how}"
    seconds = out.with_name(f"{out.name}.seconds")
    if not seconds.exists():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        stated = [
            "--ckpt",
            str(checkpoint),
            "--data",
            f"npz:{images}",
            "--normalize",
            "none",
            "--eps",
            str(eps),
        ]
        options = ["--threads", "1", "--quiet", "--out", str(out)]
        subprocess.run(["csrobust", "eval", *stated, *COMMANDS[how], *options], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        write_text(seconds, f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.1f}\n")
    run = load_run(out)
    facts = run.summary.to_dict("records")
    rows = [row for row in facts if row["eps"] == eps and row["threat"] == "batch/unknown"]
    left = {row["attack"]: round(row["accuracy"] * IMAGES) for row in rows}
    own = [attack for attack in left if "-" in attack and not attack.startswith("from:")]
    alone = [attack for attack in own if left[attack] < IMAGES]
    return {"broken": IMAGES - left["ensemble"], "by": alone, "seconds": float(seconds.read_text()) / IMAGES}


def lines(folder: Path, shared: Path) -> Iterator[str]:
    """Markdown, a line for each network and command."""
    yield "| network | eps | broken in truth | command | broken | by | CPU seconds an image |"
    yield "| --- | ---: | ---: | --- | ---: | --- | ---: |"
    hard = shared / "hard" / "mnist_cnn_a_adv"
    networks = [(hard.name, hard.with_suffix(".model"), hard.with_suffix(".npz"), 0.3, IMAGES)]
    for name in OWN:
        if not (folder / f"{name}.json").exists():
            own_network(name, shared / "data" / "mnist", folder)
        facts = json.loads((folder / f"{name}.json").read_text())
        broken = sum(margin <= 0 for margin in facts["least"])
        networks.append((name, folder / f"{name}.pt", folder / f"{name}.npz", facts["eps"], broken))
    for name, checkpoint, images, eps, broken in networks:
        for how in COMMANDS:
            found = measured(folder, name, checkpoint, images, eps, how)
            assert found["broken"] <= broken, f"{name}: more broken than the truth allows"
            by = ", ".join(f"`{attack}`" for attack in found["by"]) or "none"
            cells = (name, eps, f"{broken} of {IMAGES}", how, found["broken"], by, f"{found['seconds']:.1f}")
            yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with hard and data/mnist")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    table = "\n".join(lines(options.folder, options.shared))
    print(table)
    write("images", table, PAGE)


if __name__ == "__main__":
    smoke(needs="--shared DIR with hard/mnist_cnn_a_adv and data/mnist")
    main()
