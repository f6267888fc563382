"""report.html and comparison.html: one file each, that asks the network for nothing and opens from a disk."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from robustbench_coded.reports.render.sections import Report, Section
from robustbench_coded.reports.text import formatting
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.words import VerdictName


def html_report(report: Report) -> str:
    """A whole report in one file."""
    return page("report.html.j2", title=f"{report.title} (csrobust)", report=report)


def plain_html(title: str, opening: Sequence[str], sections: Sequence[Section]) -> str:
    """A report that is no evaluation's, in one file."""
    return page("plain.html.j2", title=title, opening=opening, sections=sections)


def page(template: str, *, more_style: str = "", **values: Any) -> str:
    """One page in the style of the reports, which asks the network for nothing.

    Args:
        template: a file of ``templates/`` that extends base.html.j2.
        more_style: rules of this page alone.
        values: what the template names.
    """
    style, script = _asset("style.css") + Markup(more_style), _asset("tables.js")
    values |= {"style": style, "script": script}
    values |= {"style_hash": _hash(style), "script_hash": _hash(script)}
    return _environment().get_template(template).render(values)


# No line of a table ends inside an interval or a number of batches; names end one at a hyphen or these signs.
_INTERVAL = re.compile(r"\[(?:at most )?[-+]?\d[^][]{0,25}\]†?|\([\d,]+ batch(?:es)?\)")
_JOINT = re.compile(r"(?<=[\w\]])[+=:,](?=[A-Za-z])")


@cache
def _environment() -> Environment:
    """Templates that escape everything but what is marked as safe, and fail on anything they do not know."""
    environment = Environment(
        loader=PackageLoader("robustbench_coded.reports.render"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formatting.percent,
        kind=lambda block: type(block).__name__,
        place=lambda share: f"{4 + 200 * share:.2f}",
        data_uri=lambda figure: f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}",
        chip=_chip,
        with_joints=_with_joints,
    )
    return environment


def _shown(value: Any) -> Any:
    """What a template prints: markup as it is, all else as one line of printable characters."""
    return value if isinstance(value, Markup) else one_line(value)


def _asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), name)[0])


def _hash(content: str) -> str:
    """What the page's own security policy names an inline style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _chip(text: str) -> Markup:
    """The text, with the verdict that it opens with as a coloured label; intervals stay whole."""
    for verdict in VerdictName:
        if text == verdict or text.startswith((f"{verdict}:", f"{verdict} (")):
            mark = Markup('<span class="chip {}">{}</span>').format(verdict.replace(" ", "-"), verdict)
            return mark + _whole_intervals(text[len(verdict) :].removeprefix(":"))
    return _whole_intervals(text)


def _whole_intervals(text: str) -> Markup:
    """One element around all of it, because each part of a cell of a card is set apart from the others."""
    marked, count = _INTERVAL.subn(r'<span class="whole">\g<0></span>', str(_with_joints(text)))
    return Markup(f"<span>{marked}</span>" if count else marked)


def _with_joints(text: str) -> Markup:
    """A text whose lines may also end between the parts of a name: ``from:`` ``mine/pgd-10`` ``+bits=8``; but
    not inside ``N = 128``.
    """
    return Markup(_JOINT.sub(r"\g<0><wbr>", str(escape(one_line(text))).replace(" = ", "&nbsp;=&nbsp;")))
