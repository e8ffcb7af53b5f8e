"""A static site of a store: a page for each suite, all models over commits, machines apart; no network.

Pictures are drawn when the site is made and stand in the pages, which hold no script. Beside them lie the
figures as JSON, and badges in the format of shields.io's endpoint.
"""

import base64
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records import store as stores
from bench.version import __version__
from bench.views import pages
from bench.views.changes import LevelChange
from bench.views.charts import site as charts
from bench.views.charts.looks import Look, looks_of
from bench.views.history import SHORT, Line, Point, histories
from bench.views.history_text import describe, format_figure, is_worse
from bench.views.shelf import FIGURES, Figure, Shelf
from bench.views.tables.titles import title_of

FIGURE_TITLES: dict[Figure, str] = {
    "speed": "Speed over the baseline's",
    "step": "Time of a step",
    "memory": "Peak memory of a step",
}


@dataclass(frozen=True)
class Track:
    """One model's line, and which figure it is of."""

    model: str
    figure: Figure
    line: Line
    tells_baseline: bool = False
    """Whether its suite has speeds against several baselines."""

    @property
    def title(self) -> str:
        line, more = self.line, []
        if line.checkpoint is not None:
            more.append(f"weights {line.checkpoint}")
        if self.tells_baseline and line.baseline is not None:
            more.append(f"against {title_of(line.baseline)}")
        return ", ".join([title_of(self.model), *self._parts(rates=True), *more])

    @property
    def setting(self) -> str:
        """The cell of the grid: all of the case but whose it is, and at which activation rate."""
        line, more = self.line, []
        if line.backend_set != "auto":
            more.append(f"backend {line.backend_set}")
        if line.seed:
            more.append(f"seed {line.seed}")
        return ", ".join([*self._parts(rates=False), *more])

    @property
    def machine(self) -> str:
        return self.line.words

    def _parts(self, rates: bool) -> list[str]:
        parts = self.line.case_id.removeprefix(f"{self.model}/").split("/")
        return [
            part.replace("activation-", "activation ")
            for part in parts
            if part.startswith("activation-") == rates
        ]


def write(store: Path, out: Path) -> list[Path]:
    """Write the pages of every suite in a store, and return their files. Raises UsageError."""
    names = stores.suites(store)
    files: dict[str, str] = {}
    entries = []
    for name in names:
        tracks = list(_tracks(store, name))
        slug = _slug(name, files)
        entries.append({"name": name, "page": f"{slug}.html", **_summary(tracks)})
        files[f"{slug}.html"] = _page(name, slug, tracks)
        files[f"data/{slug}.json"] = _json([_record(track) for track in tracks])
        for track in _newest(tracks):
            badge = _slug(f"{slug}-{track.model}", files, "badges/{}.json")
            files[f"badges/{badge}.json"] = _json(_badge(name, track))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    files["index.html"] = pages.render(
        "site_index.html.jinja", suites=entries, style=pages.file("site.css"), made=made, version=__version__
    )
    return [_written(out / name, content) for name, content in files.items()]


def _tracks(store: Path, suite: str) -> Iterator[Track]:
    shelf = Shelf()
    for figure in FIGURES:
        found = histories(store, suite, figure=figure, shelf=shelf)
        several = len({line.baseline for each in found for line in each.lines}) > 1
        for each in found:
            for line in each.lines:
                if any(point.value is not None for point in line.points):
                    yield Track(each.model, figure, line, several)


def _page(suite: str, slug: str, tracks: Sequence[Track]) -> str:
    machines = dict.fromkeys(track.machine for track in tracks)
    lines = sorted({(title_of(track.model), track.title) for track in tracks})
    looks = looks_of(lines)
    return pages.render(
        "site_suite.html.jinja",
        name=suite,
        data=f"data/{slug}.json",
        style=pages.file("site.css"),
        machines=[_machine(name, [t for t in tracks if t.machine == name], looks) for name in machines],
    )


def _machine(name: str, tracks: Sequence[Track], looks: Mapping[str, Look]) -> dict[str, Any]:
    settings = dict.fromkeys(track.setting for track in tracks)
    return {
        "name": name,
        "settings": [
            {
                "name": setting,
                "pictures": list(_pictures([t for t in tracks if t.setting == setting], looks)),
                "newest": list(_rows([t for t in tracks if t.setting == setting])),
                "changes": _changes([t for t in tracks if t.setting == setting]),
            }
            for setting in settings
        ],
    }


def _pictures(tracks: Sequence[Track], looks: Mapping[str, Look]) -> Iterator[dict[str, str]]:
    for figure in FIGURES:
        shown = [track for track in tracks if track.figure == figure]
        if shown:
            svg = charts.svg([(track.title, track.line) for track in shown], figure, looks)
            words = f"{FIGURE_TITLES[figure]} of {', '.join(t.title for t in shown)} over commits"
            source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
            yield {"title": FIGURE_TITLES[figure], "words": words, "source": source}


def _rows(tracks: Sequence[Track]) -> Iterator[dict[str, Any]]:
    """A row for each model, and activation rate: its newest figures."""
    for named in dict.fromkeys((track.model, track.title) for track in tracks):
        lines = {track.figure: track.line for track in tracks if (track.model, track.title) == named}
        last = next(iter(lines.values())).points[-1]
        cells = [_cell(lines.get(figure), figure) for figure in FIGURES]
        yield {
            "title": named[1],
            "commit": last.commit[:SHORT],
            "when": last.created[:10],
            "cells": cells,
        }


def _cell(line: Line | None, figure: Figure) -> str:
    if line is None or line.points[-1].value is None:
        failed = line is not None and line.points[-1].status != "ok"
        return f"X ({line.points[-1].status})" if line is not None and failed else "–"
    point: Point = line.points[-1]
    show = format_figure(figure)
    interval = f" ({show(point.low)} to {show(point.high)})" if point.low and point.high else ""
    return show(point.value or 0.0) + interval


def _changes(tracks: Sequence[Track]) -> list[dict[str, Any]]:
    """The newest first."""
    found = [(_when(track.line, change), track, change) for track in tracks for change in track.line.changes]
    return [
        {
            "when": when[:10],
            "commit": change.commit[:SHORT],
            "subject": next((p.subject or "" for p in track.line.points if p.commit == change.commit), ""),
            "title": track.title,
            "figure": track.figure,
            "change": describe(change),
            "cause": change.cause,
            "why": change.why,
            "worse": is_worse(change, track.figure),
        }
        for when, track, change in sorted(found, key=lambda entry: entry[0], reverse=True)
    ]


def _when(line: Line, change: LevelChange) -> str:
    return next((point.created for point in line.points if point.commit == change.commit), "")


def _summary(tracks: Sequence[Track]) -> dict[str, Any]:
    """A suite's line in the index."""
    commits = {point.commit for track in tracks for point in track.line.points}
    changes = _changes(tracks)
    return {
        "models": len({track.model for track in tracks}),
        "commits": len(commits),
        "machines": len({track.machine for track in tracks}),
        "newest": max((point.created for track in tracks for point in track.line.points), default="")[:10],
        "change": changes[0] if changes else None,
    }


def _newest(tracks: Sequence[Track]) -> list[Track]:
    """For each model the line measured last, of its speed if it has one."""
    found: dict[str, Track] = {}
    for track in tracks:
        before = found.get(track.model)
        newer = before is None or track.line.points[-1].created > before.line.points[-1].created
        if track.line.points[-1].value is not None and newer:
            found[track.model] = track
    return list(found.values())


def _badge(suite: str, track: Track) -> dict[str, Any]:
    """https://shields.io/badges/endpoint-badge"""
    last = track.line.changes[-1] if track.line.changes else None
    worse = last is not None and last.cause != "noise" and is_worse(last, track.figure)
    value = format_figure(track.figure)(track.line.points[-1].value or 0.0)
    return {
        "schemaVersion": 1,
        "label": f"{track.title} {track.figure}, {suite}",
        "message": f"× {value}" if track.figure == "speed" else value,
        "color": "red" if worse else "blue",
    }


def _record(track: Track) -> dict[str, Any]:
    return {"model": track.model, "figure": track.figure, **msgspec.to_builtins(track.line)}


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def _slug(name: str, taken: Container[str], place: str = "{}.html") -> str:
    """A file's name for any name, another one for each. place: its path, which is not to be taken yet."""
    slug = plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "suite"
    number = 1
    while place.format(slug) in taken or slug == "index":
        number += 1
        slug = f"{plain}-{number}"
    return slug


def _written(path: Path, content: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    return path
