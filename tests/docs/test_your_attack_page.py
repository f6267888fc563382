"""docs/your-attack.md: its table of algorithms is that of `csrobust list attacks`."""

from pathlib import Path

from attacks.attack import examples
from attacks.presets import reference

PAGE = (Path(__file__).parents[2] / "docs" / "your-attack.md").read_text()


def test_the_table_of_the_page_is_what_is_listed():
    lines = ["| example | algorithm | cost | norms | paper |", "| --- " * 5 + "|"]
    for name, each in examples().items():
        cells = (f"`{name}`", each.sentence, *each.facts)
        lines.append(f"| {' | '.join(cells)} |".replace("arXiv ", ""))
        assert all(fact in reference()[name] for fact in (each.sentence, each.about, *each.facts))
    shown = PAGE.split("<!-- attacks: begin -->\n")[1].split("\n<!-- attacks: end -->")[0]
    table = "\n".join(lines)
    assert shown == table, f"paste this into docs/your-attack.md:\n{table}"
