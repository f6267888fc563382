"""The preset ``full`` holds whatever the default can come to: all that ``attacks.presets`` names."""

import pytest

from attacks import presets
from attacks.presets import PRESETS

FILLED = {
    "AVERAGED": (10,),
    "FROM_TRANSFER": ("aware", "eot10"),
    "OF_LENGTH": (10, 100),
    "AUTO_OF_LENGTH": (100,),
}
NAMED = {name for name in vars(presets) if name.isupper()} - {"PRESETS", "DEFAULT", "IN_L0", "GRAMMAR"}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_attack_that_is_named_is_in_full(name):
    value = getattr(presets, name)
    forms = (value,) if isinstance(value, str) else value
    attacks = [form.format(number) for form in forms for number in FILLED.get(name, ("",))]
    assert set(attacks) <= set(PRESETS["full"])
