"""How long recognition takes: normalisation, variants, witnesses and decision, from a loaded file on.

Wide networks with random weights, whose batch-norms have seen CIFAR-10's training images behind one
normalisation. Their last layer is fitted to labels of those images and of the ones they are recognised by:
recognition takes more steps where most answers are wrong, and a trained network's are not. Writes
recognition_time.md; needs ../shared.

    OMP_NUM_THREADS=2 python benchmarks/speed/recognition_time.py
"""

import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.networks.recognition_networks import SHARED, cifar10_images
from robustbench_coded.data.augment import shift_and_flip
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.paper.training.fresh import build

NETWORKS = (
    ("resnet18", "cifar10"),
    ("resnet18[activation=silu]", "imagenet"),
    ("preact-resnet18-bn", "none"),
    ("wrn-28-4[shortcut=raw]", "cifar10-2023"),
)

RIDGE = 0.001  # of the last layer, beside the features' second moments


@torch.no_grad()
def remembering(arch: str, normalisation: str, x: Tensor, seen: Tensor, labels: Tensor) -> nn.Module:
    """A network with random weights whose batch-norms know images x, its last layer ``seen`` with labels."""
    generator = torch.Generator().manual_seed(0)
    network = build(arch, 10, 3, 32, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
            module.weight.uniform_(0.7, 1.3, generator=generator)
            module.bias.normal_(0, 0.2, generator=generator)
    known = KNOWN[3][normalisation]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (known.mean, known.std))
    for batch in shift_and_flip(x.clone(), generator).split(256):
        network((batch - mean) / std)
    last = [module for module in network.eval().modules() if isinstance(module, nn.Linear)][-1]
    features: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].double()))
    for batch in seen.split(256):
        network((batch - mean) / std)
    handle.remove()
    read = torch.cat([torch.cat(features), torch.ones(len(seen), 1).double()], 1)
    ridge = read.T @ read + len(seen) * RIDGE * torch.eye(read.shape[1])
    fitted = torch.linalg.solve(ridge, read.T @ nn.functional.one_hot(labels, 10).double())
    last.weight.copy_(10 * fitted[:-1].T)
    last.bias.copy_(10 * fitted[-1])
    return network


def main() -> None:
    x, y = cifar10_images("train-0", "train", 2048)
    images, labels = cifar10_images("test-0", "test", 2048)
    seen, known = torch.cat([x, images]), torch.cat([y, labels])
    lines = [
        "# Time of recognition",
        "",
        f"Threads: {torch.get_num_threads()}. Load of the last minute before: {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} processors. 2,048 CIFAR-10 images to choose from.",
        "",
        "| network | recognised as | seconds | processor seconds |",
        "| :-- | :-- | --: | --: |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, (arch, normalisation) in enumerate(NETWORKS):
            files.append((f"{arch} on {normalisation}", Path(folder) / f"{number}.pt"))
            torch.save(remembering(arch, normalisation, x, seen, known).state_dict(), files[-1][1])
        trained = sorted((SHARED / "checkpoints").glob("resnet*.th"))
        for name, path in [*files, *((path.name, path) for path in trained)]:
            checkpoint = load_checkpoint(path)
            started, processor = time.perf_counter(), time.process_time()
            found = recognise_network(checkpoint, images, labels)
            seconds, processor = time.perf_counter() - started, time.process_time() - processor
            lines.append(f"| {name} | {found.candidate} | {seconds:.1f} | {processor:.1f} |")
            print(lines[-1], flush=True)
    text = "\n".join([*lines, ""]).replace("[", "\\[")
    (Path(__file__).parent / "recognition_time.md").write_text(text)


if __name__ == "__main__":
    main()
