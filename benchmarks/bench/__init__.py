"""``csrobust bench``: the time of attacks, compared with the bare network."""
