"""The report's page: a template, the charts' specifications, and the library that draws them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from your_ai.report import charts
from your_ai.report.document import Document
from your_ai.units import show_size

_OPEN_TIMELINES = 8
"""So many trials' timelines are open from the beginning; more of them would make a page heavy."""

_LIBRARIES = ("vega.min.js", "vega-lite.min.js")


def write_report(results: object, path: object) -> str | None:
    return None


def page(document: Document) -> str:
    """The whole file. Nothing in it is asked of a network, and its own policy forbids that."""
    trials = document.trials
    drawn = {
        "ladder": charts.ladder(document.models, document.budget_bytes),
        **{f"trial-{n}": charts.timeline(t) for n, t in enumerate(trials) if t.memory},
        **{
            f"search-{n}-{figure}": charts.search(searched, figure)
            for n, searched in enumerate(document.searches)
            for figure in ("capacity", "speed")
        },
    }
    return _template().render(
        document=document,
        trials=trials,
        open_timelines=len(trials) <= _OPEN_TIMELINES,
        charts=drawn,
        specs=_as_script({name: chart.spec for name, chart in drawn.items()}),
        libraries=[_text(f"vega/{name}") for name in _LIBRARIES],
        style=_text("page.css"),
        script=_text("page.js"),
    )


def _as_script(value: Any) -> str:
    """JSON that is safe inside a script element, whatever a model's name is."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("your_ai.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = lambda nbytes: "–" if nbytes is None else show_size(nbytes)
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:,.0f}"
    return environment.get_template("page.html")


@cache
def _text(name: str) -> str:
    return (resources.files("your_ai.report") / name).read_text(encoding="utf-8")
