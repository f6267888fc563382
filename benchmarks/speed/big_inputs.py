"""Images of ImageNet's size on a CPU: FGSM on 64 of them, memory and speed beside torchattacks.

    python benchmarks/speed/big_inputs.py [--cells FOLDER] [--write]

Networks as torchvision defines them, with random weights. Each cell is a process of its own, with one thread:
FGSM through standard inference and through RCI, and torchattacks' in batches of 16. The speed is in images a
second of processor time, which other programs on the machine hardly change; the memory is the process's peak,
Python, torch and weights included. Then 50,000 images in a folder are planned, and last a ResNet-18 is
evaluated on 16 images in a folder by `csrobust eval`, its defaults included. ``--cells`` keeps what was
measured, so that an interrupted measurement goes on; ``--write`` writes benchmarks/speed/big_inputs.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OUT = Path(__file__).with_suffix(".md")
NETWORKS = {"resnet50": "ResNet-50", "vit_b_16": "ViT-B/16"}
IMAGES, EPS, BATCH, FILES = 64, 8 / 255, 16, 50_000
BARE, STANDARD = "torchattacks, batches of 16", "csrobust, standard"
RCI = {f"csrobust, RCI, K = {k}, N = {n}": (k, n) for k, n in ((16, 24), (128, 192))}
CELLS = [
    *((network, how) for network in NETWORKS for how in (BARE, STANDARD, next(iter(RCI)))),
    *(("resnet50", how) for how in list(RCI)[1:]),
]
PLANNED = ("planning", f"{FILES:,} images")
EVALUATED = {f"K = {k}, N = {n}": (k, n) for k, n in ((16, 24), (128, 192))}
ABOUT = f"""# Big inputs

FGSM at 8/255 on {IMAGES} images of 224 x 224 (a batch of 128 for K = 128) on a CPU with one thread. The
networks have random weights and 1,000 classes. Images a second are of processor time, measured once for
each cell on a machine that others used heavily: they are indications. The memory is the process's peak,
about 0.9 GiB of it Python, torch and weights. torchattacks gets batches of {BATCH}, csrobust batches of K
or all {IMAGES} images. On a CPU a network takes at most 20 such images at once. A gradient of more of
them computes the activations of all such pieces but the last again in the backward pass, which makes the
memory that of one piece; when this was measured, those of the last one, too. Written by
`python benchmarks/speed/big_inputs.py --write`.

"""

# Hooks counted the images at the first convolution. Other programs had nine tenths of the machine.
BY_STAGE = """
Where the time of `csrobust eval --data folder:... --rci N=1.5K --batch-size 16` goes, for a ResNet-18 with
random weights on 16 images that it labels itself; once, on a machine that gave it a tenth of a core, where
an image took 51 ms of processor time (`BY_STAGE` in big_inputs.py).

| stage | images forwarded | differentiated | processor time |
| --- | --- | --- | --- |
| recognition, with `--arch` and `--normalize` | 1,315 | 0 | 18 s |
| copy for attacks, compared with the network | 32 | 32 | 4 s |
| probes of standard inference and RCI | 572 | 172 | 44 s |
| start of Python, timing, reports | 118 | 44 | 15 s |
| self-tests, standard inference | 688 | 272 | 55 s |
| self-tests, RCI | 1,504 | 592 | 108 s |
| clean inputs, both | 496 | 0 | 25 s |
| FGSM, standard inference | 34 | 16 | 3 s |
| transfer-pgd-20, RCI | 800 | 320 | 58 s |

That command, with the default attacks, was stopped in transfer-pgd-20 on single victims after 363 s of
processor time and 2.30 GiB at most, and wrote its reports. With `--attacks fgsm` the same folder was finished
in 262 s of processor time (14.6 minutes on that machine) and 2.22 GiB: recognition and probes again, the
self-tests kept, FGSM, inputs submitted again, 25 random batches of clean inputs. Standard inference is
`broken`, RCI `not settled`: one batch of 16 images is too few.
"""


def measured(network: str, how: str) -> dict[str, float]:
    """One cell, in this process."""
    import torch
    import torchvision

    from robustbench_coded import attack
    from robustbench_coded.defences.rci import RCI as Randomised
    from robustbench_coded.models.pixel_model import PixelModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    bare = getattr(torchvision.models, network)(weights=None).eval().requires_grad_(False)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = PixelModel(bare, mean, deviation, classes=1000, arch=network)
    k, n = RCI.get(how, (IMAGES, 0))
    x = torch.rand(max(IMAGES, k), 3, 224, 224)
    y = torch.randint(1000, (len(x),))
    if how == BARE:
        import torchattacks

        theirs = torchattacks.FGSM(bare, eps=EPS)
        theirs.set_normalization_used(mean, deviation)
        run, size = theirs, BATCH
    elif n:
        defence = Randomised(model, k, n)
        run, size = lambda x, y: attack(defence, x, y, "fgsm", EPS, seed=0), k
    else:
        run, size = lambda x, y: attack(model, x, y, "fgsm", EPS, seed=0), IMAGES
    start = time.process_time()
    for rows in torch.arange(len(x)).split(size):
        run(x[rows], y[rows])
    seconds = time.process_time() - start
    return {"images_per_second": len(x) / seconds, "peak": peak()}


def peak() -> float:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def planned(limit: int | None = 1000) -> dict[str, float]:
    """A folder of so many images, from its listing to the units of an evaluation of 1,000 of them."""
    import numpy as np
    import torch
    from PIL import Image

    from robustbench_coded.evaluation.options.config import EvalConfig
    from robustbench_coded.evaluation.session.evaluation import make_plan
    from robustbench_coded.evaluation.setup.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        root, generator = Path(folder), np.random.default_rng(0)
        for shade in range(2):
            pixels = generator.integers(128 * shade, 128 * shade + 128, (224, 224, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{shade}.jpg")
            (root / "images" / str(shade)).mkdir(parents=True)
        for number in range(FILES):
            os.link(root / f"{number % 2}.jpg", root / "images" / str(number % 2) / f"{number}.jpg")
        weights = {"2.weight": torch.tensor([[-1.0] * 3, [1.0] * 3]), "2.bias": torch.tensor([1.5, -1.5])}
        torch.save(weights, root / "shades.pt")
        (root / "shades_network.py").write_text(
            "from torch import nn\n\n\ndef build():\n"
            "    return nn.Sequential(nn.AvgPool2d(224), nn.Flatten(), nn.Linear(3, 2))\n"
        )
        start, before = time.process_time(), peak()
        sys.path.insert(0, str(root))
        config = EvalConfig(
            checkpoints=(("shades", str(root / "shades.pt")),), arch="shades_network:build", normalize="none",
            data=f"folder:{root / 'images'}", limit=limit, attacks=("fgsm",), device="cpu",
        )  # fmt: skip
        plan = make_plan(prepare(config))
        seconds = time.process_time() - start
        return {"seconds": seconds, "units": len(plan.units), "more": peak() - before}


def evaluated(how: str) -> dict[str, Any]:
    """`csrobust eval` on 16 images in a folder: a ResNet-18 of random weights, which labels them itself."""
    import torch
    import torchvision
    from PIL import Image
    from torch.nn import functional

    from robustbench_coded.cli.main import main as csrobust
    from robustbench_coded.judge.run import load_run

    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=4)
    x = functional.interpolate(torch.rand(200, 3, 8, 8), size=(224, 224), mode="bicubic").clamp(0, 1)
    x = (x * 255).round() / 255
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of all images that have passed
    with torch.no_grad():
        for piece in x.split(50):
            network(normalise(piece))
        network.eval()
        logits = torch.cat([network(normalise(piece)) for piece in x.split(50)])
        network.fc.bias -= logits.mean(0)
    labels = (logits - logits.mean(0)).argmax(1)
    k, n = EVALUATED[how]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(16):
            place = root / "images" / str(int(labels[number]))
            place.mkdir(parents=True, exist_ok=True)
            pixels = (x[number] * 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(place / f"{number}.png")
        torch.save(network.state_dict(), root / "resnet18.pt")
        del x, logits
        before, start = time.process_time(), time.perf_counter()
        csrobust(
            f"eval --ckpt {root}/resnet18.pt --arch torchvision:resnet18 --normalize imagenet --quiet "
            f"--data folder:{root}/images --batch-size {k} --rci N={n} --threads 1 --out {root}/run".split()
        )
        run = load_run(root / "run")
        words = {judgement.subject.defence: judgement.verdict.name for judgement in run.judgements}
        return {
            "processor": time.process_time() - before,
            "seconds": time.perf_counter() - start,
            "peak": peak(),
            "rows": len(run.manifest.cases),
            "words": ", ".join(f"{defence} {word}" for defence, word in words.items()),
        }


def page(cells: dict[str, dict[str, Any]]) -> str:
    from benchmarks.bench.table import pipes

    rows = []
    for network, how in CELLS:
        if (cell := cells.get(f"{network}: {how}")) is not None:
            speed, memory = f"{cell['images_per_second']:.2f}", f"{cell['peak'] / 2**30:.2f} GiB"
            rows.append([NETWORKS[network], how, speed, memory])
    text = ABOUT + pipes([("network", "FGSM through", "images/s", "peak memory"), *rows]) + "\n"
    if (plan := cells.get(": ".join(PLANNED))) is not None:
        text += (
            f"\nPlanning an evaluation of 1,000 of {FILES:,} JPEG files in a folder takes "
            f"{plan['seconds']:.1f} s of processor time, recognition of the network on 445 of them included, "
            f"and {plan['more'] / 2**20:.0f} MiB more memory. Files are decoded when a batch asks for them.\n"
        )
    found = {how: cells[f"evaluating: {how}"] for how in EVALUATED if f"evaluating: {how}" in cells}
    if found:
        rows = [
            [how, f"{cell['processor']:.0f} s", f"{cell['seconds']:.0f} s", f"{cell['peak'] / 2**30:.2f} GiB",
             str(cell["rows"]), str(cell["words"])]
            for how, cell in found.items()
        ]  # fmt: skip
        heads = ("RCI", "processor time", "time", "peak memory", "rows", "words")
        text += (
            "\n`csrobust eval --data folder:...` with its defaults, standard inference and RCI: a ResNet-18 "
            "with random weights, on 16 images that it labels itself, to the finished report.\n\n"
            + pipes([heads, *rows])
            + "\n"
        )
    return text + BY_STAGE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cell", nargs=2)
    options = parser.parse_args()
    if options.cell is not None:
        what, how = options.cell
        found = planned() if (what, how) == PLANNED else evaluated(how) if what == "evaluating" else None
        print(json.dumps(found or measured(what, how)))
        return
    cells = {}
    for cell in [*CELLS, PLANNED, *(("evaluating", how) for how in EVALUATED)]:
        name = ": ".join(cell)
        kept = options.cells / f"{name.replace('/', '-')}.json" if options.cells else None
        if kept is not None and kept.exists():
            cells[name] = json.loads(kept.read_text())
            continue
        command = [sys.executable, __file__, "--cell", *cell]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        cells[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, cells[name], flush=True)
        if kept is not None:
            kept.write_text(json.dumps(cells[name]))
    text = page(cells)
    if options.write:
        OUT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
