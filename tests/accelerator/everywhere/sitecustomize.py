"""Gives every Python process the imitated devices: for `make gpu-check` without an accelerator."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
import imitation_accelerator

imitation_accelerator.appear()
