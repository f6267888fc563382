"""One command a file; `cli/app.py` imports the one that was asked for."""
