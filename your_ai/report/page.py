"""The report's page: a template, the charts' specifications, and the libraries that draw them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from your_ai.files import write_atomically
from your_ai.report import ceiling, charts, naming, timeline
from your_ai.report.spec import Chart
from your_ai.runs.results import Results, recommended
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import show_size

_OPEN_TRIALS = 3
"""The other trials are folded, and their charts are drawn when they are opened."""

_LIBRARIES = ("vega.min.js", "vega-lite.min.js")


def write_report(results: Results, path: Path) -> str | None:
    """Write the page; return the problem in one line if it cannot be written, else ``None``."""
    try:
        write_atomically(path, page(results).encode(errors="replace"))
    except OSError as error:
        reason = error.strerror or error
        return f"Cannot write {path}: {reason}. Check its permissions and the disk space."
    return None


def page(results: Results) -> str:
    """Return the HTML page. It loads nothing; its content security policy forbids requests."""
    results = naming.with_distinct_names(results)
    drawn = _charts(results)
    return template().render(
        results=results,
        best=recommended(results.results),
        facts=_facts(results),
        trials=results.trials,
        open_trials=_OPEN_TRIALS,
        charts=drawn,
        figures=charts.FIGURES,
        specs=_as_script({name: chart.spec for name, chart in drawn.items()}),
        libraries=[_text(f"vega/{name}") for name in _LIBRARIES],
        style=_text("page.css"),
        script=_text("page.js"),
    )


def _charts(results: Results) -> dict[str, Chart]:
    """Return all charts by the names that the template uses."""
    found = {"ladder": charts.ladder(results)}
    searches = [(entry, entry.optimal_config) for entry in results.results if entry.optimal_config]
    for number, (entry, search) in enumerate(searches):
        for figure in charts.figures(search):
            found[f"search-{number}-{figure}"] = charts.search(entry, figure)
    maps = [(entry, entry.ceiling) for entry in results.results if entry.ceiling]
    for number, (entry, longest) in enumerate(maps):
        for kind in ceiling.kinds(longest):
            found[f"ceiling-{number}-{ceiling.NAMES[kind]}"] = ceiling.chart(entry, kind)
    for number, trial in enumerate(results.trials):
        if trial.memory_timeline:
            found[f"trial-{number}-memory"] = timeline.memory(trial)
        if trial.footprint_timeline:
            found[f"trial-{number}-footprint"] = timeline.footprint(trial)
    return found


def _facts(results: Results) -> dict[str, str]:
    """Return what the run was measured with."""
    device, machine = results.device, results.machine
    return {
        "Device": f"{device.name} ({device.backend})",
        "Device memory": show_size(device.memory_bytes),
        "System memory": show_size(machine.memory_bytes),
        "Memory budget": show_size(results.budget_bytes),
        "CPUs": str(machine.cpus),
        "System": f"{machine.system} {machine.release} ({machine.architecture})",
        **device.versions,
        "your_ai": results.your_ai_version,
    }


def _outcome_class(trial: TrialResult) -> str:
    if trial.outcome in (OutcomeKind.SKIPPED, OutcomeKind.INTERRUPTED):
        return "soft"
    return "passed" if trial.success else "failed"


def _minute(time: str) -> str:
    """Return ``2026-01-02 03:04 UTC``."""
    return f"{time[:16].replace('T', ' ')} UTC"


def _as_script(value: Any) -> str:
    """Return JSON that is safe inside a script element, even if a name contains ``</script>``."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c")


@cache
def template() -> Template:
    """Return the page's template; compiling it is slow."""
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
        "outcome_class": _outcome_class,
        "minute": _minute,
        "speed_note": naming.speed_note,
        "kinds": ceiling.kinds,
        "rows": ceiling.rows,
        "longest": ceiling.longest,
        "proof": ceiling.proof,
        "size": lambda nbytes: "–" if nbytes is None else show_size(nbytes),
        "number": lambda value: "–" if value is None else f"{value:,.0f}",
    }
    return environment.get_template("page.html")


@cache
def _text(name: str) -> str:
    return (resources.files("your_ai.report") / name).read_text(encoding="utf-8")
