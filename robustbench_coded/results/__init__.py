"""Run folders read back: the run, its rows as counted by statistics/, and what is judged of them."""
