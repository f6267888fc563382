"""One evaluation, from options to a finished run folder, in rooms by who owns the data."""
