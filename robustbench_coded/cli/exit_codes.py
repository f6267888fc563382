"""What the exit code of ``csrobust`` says."""

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
