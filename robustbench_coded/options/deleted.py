"""Options and commands that csrobust once had, and what does their work now."""

# A name as it was typed on the command line -> what to do instead.
DELETED = {
    "--certify": "csrobust no longer computes certified bounds; leave it out",
    "--submissions": "csrobust reports the accuracy of single submissions; leave it out",
    "--query-budget": "summary.csv has the images that each attack used; leave it out",
    "--checks": "name a preset among the attacks, as --attacks adaptive,mosaic-8",
    "--class-mix": "batches are drawn from a random class-balanced sample; leave it out",
    "--last-batch": "the last batch is filled with examples that are not scored; leave it out",
    "--third-party-batches": "third-party attacks run on csrobust's batches; leave it out",
    "--unit-timeout": "a unit without an answer is stopped after a fixed time; leave it out",
    "--address": "Ray reads the address of a cluster from RAY_ADDRESS",
    "--victims": "the number of single victims is fixed; leave it out",
    "--claim-attack": "write it behind the accuracy, as --claim '72% pgd-10'",
    "--claim-threat": "write it behind the accuracy, as --claim '72% batch/unknown'",
    "--claim-eps": "write it behind the accuracy, as --claim '72% eps=8/255'",
    "--claim-votes": "write it behind the accuracy, as --claim '72% votes=5'",
    "--sequence-length": "write it behind the state, as --state persistent:8",
    "--selection-draws": "attacks are chosen on two draws; leave it out",
    "--early-stop": "attacks stop early where that changes nothing but the time; leave it out",
    **dict.fromkeys(
        ("--victim-attacks", "--relaxed-attacks", "--second-attacks", "--aware-attacks"),
        "presets among --attacks say what runs where; leave it out",
    ),
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
