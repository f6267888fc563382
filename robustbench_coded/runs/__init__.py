"""Files of a run folder: written atomically, checked when read. Nothing here knows attacks or statistics."""
