"""How everything is said: numbers, names and threat models as text, plain tables, escaping."""
