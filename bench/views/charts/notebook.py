"""Charts in a notebook: as a picture that needs no network, where Altair's own page would load a library."""

import functools
from typing import Any

from bench.system.extras import require
from bench.views.charts.style import Chart, Spec, alt


class Offline:
    """An Altair chart's way into a notebook; a renderer that the user has enabled comes first."""

    def _repr_mimebundle_(self, *words: Any, **options: Any) -> Any:
        if alt.renderers.active != "default":
            return super()._repr_mimebundle_(*words, **options)  # type: ignore[misc]
        spec: Spec = self.to_dict()  # type: ignore[attr-defined]
        return {"image/svg+xml": require("vl_convert", "report").vegalite_to_svg(spec)}


def offline(spec: Spec) -> Chart:
    """The chart of a specification; what is made of it by Altair's methods is shown in the same way."""
    chart = alt.Chart.from_dict(spec)
    # Altair takes what is set on a chart for a part of its specification.
    kind: Any = type(chart)
    object.__setattr__(chart, "__class__", _offline(kind))
    return chart


@functools.cache
def _offline(kind: Any) -> Any:
    return type(kind.__name__, (Offline, kind), {})
