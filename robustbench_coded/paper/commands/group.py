"""``csrobust paper``: what repeats the studies of arXiv 2510.00253."""

from robustbench_coded.cli.parser import Group
from robustbench_coded.paper.commands.figure import FIGURES
from robustbench_coded.paper.commands.studies import ablate_command, gan_command
from robustbench_coded.paper.shift.command import shift_command

PAPER = Group(
    "Repeat the studies of the paper: ablate, figure, gan and shift.",
    {"ablate": ablate_command, "figure": FIGURES, "gan": gan_command, "shift": shift_command},
)
