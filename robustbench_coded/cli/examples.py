"""What ``--help`` of each command shows to copy."""

EXAMPLES = {
    "eval": (
        "csrobust eval --ckpt model.pt --rci N=190",
        "csrobust eval --ckpt digits-erm --data digits --rci N=1.5K --limit 640",
        "csrobust eval --ckpt erm=a.pt --ckpt mixup=b.pt --rci N=128 --attacks paper,transfer-pgd-20",
        "csrobust eval reports/mine/run.toml --limit 1280 --out reports/more",
        "csrobust eval --ckpt model.pt --defence my_defence:build --claim 72% --claim-attack pgd-10",
    ),
    "plan": ("csrobust plan --ckpt model.pt --rci N=190 --limit 640",),
    "sweep": ("csrobust sweep --ckpt model.pt --batch-size 8,16,32,64,128 --rci N=1.5K",),
    "curve": (
        "csrobust curve --ckpt model.pt --rci N=190 --eps 0,2/255,4/255,8/255",
        "csrobust curve --ckpt model.pt --rci N=190 --over draws",
    ),
    "screen": ("csrobust screen --ckpt model.pt --rci N=190",),
    "shift": (
        "csrobust shift --ckpt digits-erm --ckpt digits-coded --data digits --rci N=1.5K",
        "csrobust shift --ckpt erm=a.pt --ckpt coded=b.pt --data cifar10 --data cifar10.1:DIR --limit 1000",
        "csrobust shift --ckpt model.pt --data cifar10c:DIR --corruptions fog,frost --severities 3,5",
    ),
    "compare": (
        "csrobust compare reports/mine reports/other",
        "csrobust compare reports/mine --baseline standard --format md,html,csv,latex --out comparison",
    ),
    "export": (
        "csrobust export reports/mine --to robustbench --out model_info",
        "csrobust export reports/mine --to wandb",
    ),
    "report": ("csrobust report reports/mine",),
    "compact": ("csrobust compact reports/mine",),
    "board": ("csrobust board reports/mine reports/other --out board",),
    "submit": ("csrobust submit reports/mine --entry entry.toml --out board-entries",),
    "show": ("csrobust show reports/mine", "csrobust show reports/mine --example 5"),
    "view": ("csrobust view reports", "csrobust view reports --out site/index.html"),
    "train": ("csrobust train --recipe coded --arch digits-cnn --data digits --out coded.safetensors",),
    "ablate": ("csrobust ablate n mu --data digits --arch digits-cnn --seeds 3",),
    "gan": ("csrobust gan --data digits --features digits-erm --n 64,96 --iterations 1000 --seeds 3",),
    "tabular": ("csrobust tabular --sets breast-cancer,wine --seeds 10",),
    "verify": ("csrobust verify reports/mine",),
    "probe": ("csrobust probe --ckpt model.pt --defence my_defence:build",),
    "bench": ("csrobust bench --short",),
    "inspect": ("csrobust inspect model.pt",),
    "list": ("csrobust list attacks", "csrobust list checkpoints", "csrobust list runs reports"),
}
