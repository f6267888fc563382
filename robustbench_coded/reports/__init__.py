"""What people read of a run: tables, sentences, figures, from its folder alone. No torch in here."""
