"""``csrobust bench``: what an attack costs here, beside the bare network and beside other packages."""
