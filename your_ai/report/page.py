"""The report's page: a template, the charts' specifications, and the library that draws them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from your_ai.files import write_atomically
from your_ai.report import charts, naming
from your_ai.runs.results import Results
from your_ai.units import GB, show_size

_OPEN_TIMELINES = 8
"""With more trials than this their timelines start closed, because each takes a while to draw."""

_LIBRARIES = ("vega.min.js", "vega-lite.min.js")


def write_report(results: Results, path: Path) -> str | None:
    """Write the page; the problem in one line if it cannot be written, else ``None``."""
    try:
        write_atomically(path, page(results).encode(errors="replace"))
    except OSError as error:
        return f"Cannot write {path}: {error.strerror or error}."
    return None


def page(results: Results) -> str:
    """The whole file. It requests nothing from a network, and its own policy forbids that."""
    results = naming.with_distinct_names(results)
    trials = results.trials
    drawn = {
        "ladder": charts.ladder(results),
        **{f"trial-{n}": charts.timeline(t) for n, t in enumerate(trials) if t.memory_timeline},
        **{
            f"search-{n}-{figure}": charts.search(entry, figure)
            for n, entry in enumerate(entry for entry in results.results if entry.optimal_config)
            for figure in charts.FIGURES
        },
    }
    return _template().render(
        results=results,
        facts=_facts(results),
        trials=trials,
        open_timelines=len(trials) <= _OPEN_TIMELINES,
        charts=drawn,
        specs=_as_script({name: chart.spec for name, chart in drawn.items()}),
        libraries=[_text(f"vega/{name}") for name in _LIBRARIES],
        style=_text("page.css"),
        script=_text("page.js"),
    )


def _facts(results: Results) -> dict[str, str]:
    """What the run was measured with."""
    device, machine = results.device, results.machine
    return {
        "Device": f"{device.name} ({device.backend})",
        "Its memory": f"{device.memory_bytes / GB:.2f} GB",
        "Machine's memory": f"{machine.memory_bytes / GB:.2f} GB",
        "System": f"{machine.system} {machine.release} ({machine.architecture})",
        "CPUs": str(machine.cpus),
        "Budget": show_size(results.budget_bytes),
        **device.versions,
        "your_ai": results.your_ai_version,
        "Started": results.started_at,
    }


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
    environment.filters |= {
        "title": naming.title,
        "configuration": naming.configuration,
        "size": lambda nbytes: "–" if nbytes is None else show_size(nbytes),
        "number": lambda value: "–" if value is None else f"{value:,.0f}",
    }
    return environment.get_template("page.html")


@cache
def _text(name: str) -> str:
    return (resources.files("your_ai.report") / name).read_text(encoding="utf-8")
