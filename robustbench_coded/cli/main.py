"""The command ``csrobust``: parses, calls one documented function, prints. Torch is imported when needed."""

import sys
import traceback
from typing import Any

import typer

from robustbench_coded.errors import InputError
from robustbench_coded.installation import require_own_attacks
from robustbench_coded.reports.text.escape import one_line

# Some versions of typer bring their own copy of click: its base error is found through typer's.
ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code; the console script ends with it."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        sys.exit(code)
    return code


def run(arguments: list[str]) -> int:
    """0 done, 2 the user's input is wrong, 130 interrupted, 1 anything else."""
    try:
        require_own_attacks()
    except ImportError as error:
        return _complain(str(error), FAILED)
    from robustbench_coded.cli import app

    command = typer.main.get_command(app.app)
    try:
        code = command.main(arguments, prog_name="csrobust", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except InputError as error:
        return _complain(str(error), WRONG_INPUT)
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except ClickException as error:
        return _complain(" ".join(error.format_message().split()), WRONG_INPUT)
    except Exception:
        traceback.print_exc()
        return FAILED


def _complain(message: str, code: int) -> int:
    print(one_line(f"csrobust: {message}"), file=sys.stderr)
    return code
