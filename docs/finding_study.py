"""The study behind docs/finding.md: what RCI gains over its base model, by perturbation budget (`make study`).

python docs/finding_study.py [FOLDER]      runs every cell in FOLDER (default runs/rci), or goes on where it stopped
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NETWORKS = ("erm", "coded")
# In the order of what the study most needs to know: 8/255 of pixels is a floor for every undefended network.
BUDGETS = (
    ("2/255", "pixel"),
    ("8/255", "normalized"),
    ("1/255", "pixel"),
    ("4/255", "pixel"),
    ("8/255", "pixel"),
)
# In place of the named rows. The last one begins where the strongest cheap attack ends; the adaptive rung adds the others.
ATTACKS = ("pgd-10", "transfer-pgd-20", "pgd-100+init=transfer-pgd-20+loss=margin+momentum=1")


def main(folder: Path) -> None:
    for network in NETWORKS:
        for eps, space in BUDGETS:
            options = cell_options(network, eps, space)
            subprocess.run(["csrobust", "plan", *options], check=True)
            subprocess.run(
                ["csrobust", "eval", *options, "--out", str(folder / cell_name(network, eps, space))],
                check=True,
            )


def cell_name(network: str, eps: str, space: str) -> str:
    return f"{network}-{space}-{eps.replace('/', '-')}"


def cell_options(network: str, eps: str, space: str) -> list[str]:
    checkpoint = f"{network}=checkpoints/cifar10-{network}-resnet20.safetensors"
    return [
        *("--ckpt", checkpoint, "--data", "npz:data/cifar10_test.npz", "--limit", "256", "--rci", "N=190"),
        *(
            "--eps",
            eps,
            "--eps-space",
            space,
            "--attacks",
            ",".join(ATTACKS),
            "--until",
            "settled",
            "--threads",
            "1",
        ),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "rci")
