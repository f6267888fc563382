"""Options and commands that csrobust once had, and what does their work now."""

# A name as it was typed on the command line -> what to do instead.
DELETED = {
    "--certify": "csrobust no longer computes certified bounds; leave it out",
    "curve": "csrobust eval --eps 0,2/255,4/255,8/255 measures accuracy over eps, with a figure",
    "view": "csrobust list runs FOLDER lists all runs, csrobust compare RUN RUN sets them side by side",
    "power": "the checks in the report say what a positive verdict rests on",
}


def answer_to(name: str) -> str | None:
    """The line for an option (``--certify``, ``--no-certify=``) or a command that was deleted; else None."""
    usual = name.replace("_", "-").replace("--no-", "--")
    return f"{name} was deleted: {DELETED[usual]}" if usual in DELETED else None
