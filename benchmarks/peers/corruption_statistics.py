"""Mean, deviation and PSNR of every corruption at every severity, as docs/shift.md shows them.

python benchmarks/peers/corruption_statistics.py data/cifar10_test.npz 1000
"""

import sys

import numpy as np

from robustbench_coded.paper.shift.corruptions import corrupt, corruptions_for
from robustbench_coded.paper.shift.sets import SEVERITIES

SEED = 0


def main(path: str, count: int) -> None:
    images = np.load(path)["x"][:count]
    print("| corruption | mean | deviation | PSNR, dB |")
    print("| --- | --- | --- | --- |")
    print(f"| clean | {images.mean():.1f} | {images.std():.1f} | |")
    for name in corruptions_for(images.shape[-1]):
        means, deviations, ratios = [], [], []
        for severity in SEVERITIES:
            found = corrupt(images, range(len(images)), name, severity, SEED)
            error = ((found.astype(np.float64) - images) ** 2).mean()
            means.append(f"{found.mean():.1f}")
            deviations.append(f"{found.std():.1f}")
            ratios.append(f"{10 * np.log10(255**2 / error):.1f}")
        print(f"| {name} | {' '.join(means)} | {' '.join(deviations)} | {' '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
