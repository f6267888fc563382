"""How one unit is computed: models, defences and data of a worker, attacks, scoring."""
