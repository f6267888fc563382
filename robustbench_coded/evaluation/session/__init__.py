"""One evaluation from beginning to end: folder, plan, units, follow-ups, reports, progress."""
