"""An option: its one definition, and its values as people type them."""
