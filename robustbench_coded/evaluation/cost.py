"""What attacks cost, before they run: queries per input and the step sizes they will take."""

from attacks.naming import AttackName

# AutoAttack's budget for the paper's eps: PGD of up to 20 steps moves by 2/255 at eps 8/255, longer ones by 1/255.
SHORT_PGD_STEPS = 20
