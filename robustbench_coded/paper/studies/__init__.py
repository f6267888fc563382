"""Commands of the paper's studies beside attacks, and what these studies have in common."""
