"""The formats: Markdown, HTML, LaTeX, CSV and the terminal."""
