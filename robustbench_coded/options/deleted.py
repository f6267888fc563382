"""Options and commands that csrobust once had, and what does their work now."""

# Options without a successor.
GONE = (
    "--certify", "--submissions", "--query-budget", "--class-mix", "--last-batch", "--third-party-batches",
    "--unit-timeout", "--victims", "--selection-draws", "--early-stop", "--victim-attacks",
    "--relaxed-attacks", "--second-attacks", "--aware-attacks",
)  # fmt: skip
# A name as it was typed on the command line -> what to do instead.
DELETED = dict.fromkeys(GONE, "csrobust no longer has it; leave it out") | {
    "--checks": "name a preset among the attacks, as --attacks adaptive,mosaic-8",
    "--address": "Ray reads the address of a cluster from RAY_ADDRESS",
    "--claim-attack": "write it behind the accuracy, as --claim '72% pgd-10'",
    "--claim-threat": "write it behind the accuracy, as --claim '72% batch/unknown'",
    "--claim-eps": "write it behind the accuracy, as --claim '72% eps=8/255'",
    "--claim-votes": "write it behind the accuracy, as --claim '72% votes=5'",
    "--sequence-length": "write it behind the state, as --state persistent:8",
    "--seconds": "csrobust screen takes --time 120s",
    "--to": "csrobust report takes --format latex",
    "probe": "csrobust inspect model.pt --defence my_defence:build measures a defence",
    "export": "csrobust report RUN --format latex,parquet,robustbench,every-eval-ever writes other formats",
    **{name: f"it is csrobust paper {name}" for name in ("ablate", "figure", "gan", "shift")},
    "bench": "python benchmarks/speed/speed.py times attacks, in a checkout",
    "curve": "csrobust eval --eps 0,2/255,4/255,8/255 measures accuracy over eps",
    "view": "csrobust list runs FOLDER lists all runs, csrobust compare RUN RUN sets them side by side",
    "compact": "every run ends in one file of outcomes and one log",
    "power": "the checks in the report say what a positive verdict rests on",
}


def answer_to(name: str) -> str | None:
    """The line for an option (``--certify``, ``--no-certify=``) or a command that was deleted; else None."""
    usual = name.replace("_", "-").replace("--no-", "--")
    return f"{name} was deleted: {DELETED[usual]}" if usual in DELETED else None
