"""``python -m robustbench_coded``: the command line where ``csrobust`` is not on the path."""

import sys

from robustbench_coded.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
