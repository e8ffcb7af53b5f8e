"""The chart of profiles: stages of a step under the ceilings of their device."""

from collections.abc import Sequence

from bench.errors import UsageError
from bench.records.profile import Ceilings, Profile, add
from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.looks import looks_of
from bench.views.charts.style import (
    HEIGHT,
    WIDTH,
    Spec,
    alt,
    base_chart,
    by_model,
    exact_scale,
    finished,
    placed_names,
    radius,
)
from bench.views.tables.titles import own_title, title_of

STAGE_DOTS = [25, 400]
"""Areas in square pixels, of the least share of a step and the largest."""


def roofline(profiles: Sequence[Profile]) -> Spec:
    """Stages of profiles under the ceilings of their device. Raises UsageError if devices differ."""
    ceilings = profiles[0].ceilings
    if len({profile.environment.machine for profile in profiles}) > 1:
        raise UsageError("roofline: the profiles come from different machines, whose ceilings differ")
    if len({profile.case.precision for profile in profiles}) > 1:
        raise UsageError(
            "roofline: the profiles are in different precisions, whose ceilings differ; draw each alone"
        )
    points = points_of(profiles)
    if not points:
        raise UsageError("roofline: no stage of these profiles has a time, FLOPs and bytes")
    roof = _roof(ceilings, [point["intensity"] for point in points])
    most = max(point["share"] for point in points)
    points = [
        {**point, "label": point["stage"], "radius": radius(point["share"] / most, STAGE_DOTS)}
        for point in points
    ]
    x, y = (
        labels.Axis.around([place[field] for place in (*roof, *points)], pixels, padding=30, log=True)
        for field, pixels in (("intensity", WIDTH), ("rate", HEIGHT))
    )
    points = labels.place(
        points, ("intensity", x), ("rate", y), [[(corner["intensity"], corner["rate"]) for corner in roof]]
    )
    looks = looks_of(
        (own_title(profile.case.implementation), name)
        for profile, name in zip(profiles, _names(profiles), strict=True)
    )
    powers = [10.0**power for power in range(-6, 18)]
    base = base_chart(points).encode(
        x=alt.X(
            "intensity:Q",
            scale=exact_scale(x),
            title="FLOPs per byte moved",
            axis=alt.Axis(values=powers, format="~g"),
        ),
        y=alt.Y(
            "rate:Q",
            scale=exact_scale(y),
            title="FLOP/s",
            axis=alt.Axis(values=powers, format="~s"),
        ),
        tooltip=["model:N", "stage:N", alt.Tooltip("share:Q", format=".1%"), "rate:Q", "intensity:Q"],
    )
    dots = base.mark_point(filled=True, opacity=1).encode(
        color=by_model(looks, "color"),
        shape=by_model(looks, "shape"),
        size=alt.Size(
            "share:Q",
            title="Share of the step",
            legend=alt.Legend(format="%", tickCount=4),
            scale=alt.Scale(domain=[0, most], range=STAGE_DOTS),
        ),
    )
    line = alt.Chart(alt.InlineData(values=roof)).mark_line(color="#555", strokeDash=[6, 3])
    line = line.encode(x="intensity:Q", y="rate:Q")
    subtitle = [
        f"{profile.case.id}, {profile.environment.hardware}, {profile.created[:16]}" for profile in profiles
    ]
    limits = (
        f"dashed: {ceilings.flops_per_second / 1e9:,.4g} GFLOP/s, "
        f"{ceilings.bytes_per_second / 1e9:,.4g} GB/s, measured there"
    )
    title = alt.TitleParams(
        "Stages under the roofline", subtitle=[*subtitle, limits], anchor="start", subtitleColor="#555"
    )
    chart = alt.layer(*placed_names(base), line, dots)
    return finished(chart.properties(title=title, description="\n".join(subtitle)))


def points_of(profiles: Sequence[Profile]) -> list[Point]:
    """Intensity and rate of every stage's own work that takes a hundredth of the step or more."""
    points = []
    for profile, name in zip(profiles, _names(profiles), strict=True):
        whole = sum(stage.forward.seconds + stage.backward.seconds for stage in profile.stages)
        frames = {stage.path[:-1] for stage in profile.stages if stage.path}
        for stage in profile.stages:
            cost = add(stage.forward, stage.backward)
            if cost.flops and cost.bytes and cost.seconds >= whole / 100:
                points.append(
                    {
                        "model": name,
                        "stage": _stage_name(stage.path, stage.path in frames),
                        "share": cost.seconds / whole,
                        "intensity": cost.flops / cost.bytes,
                        "rate": cost.flops / cost.seconds,
                    }
                )
    return points


def _names(profiles: Sequence[Profile]) -> list[str]:
    """The titles of models; two profiles of one are told apart by settings, else by when each was made."""
    titles = [title_of(profile.case.implementation) for profile in profiles]
    if len(set(titles)) == len(titles):
        return titles
    settings = [profile.case.id.split("/")[1:] for profile in profiles]
    shared = set.intersection(*map(set, settings))
    names = [
        ", ".join([title, *(part for part in parts if part not in shared)])
        for title, parts in zip(titles, settings, strict=True)
    ]
    if len(set(names)) == len(names):
        return names
    return [f"{name}, {profile.created[:19]}" for name, profile in zip(names, profiles, strict=True)]


def _stage_name(path: tuple[str, ...], has_stages: bool) -> str:
    """Name of a stage's own work; `(other)` is what it does outside the stages within it."""
    return " ".join([*path[-1:], *(["(other)"] if has_stages else [])])


def _roof(ceilings: Ceilings, intensities: Sequence[float]) -> list[Point]:
    """The most FLOP/s at each intensity: memory's slope, then the flat roof of arithmetic."""
    ridge = ceilings.flops_per_second / ceilings.bytes_per_second
    places = sorted({min(*intensities, ridge / 2), ridge, max(*intensities, ridge * 2)})
    most = ceilings.flops_per_second
    return [{"intensity": place, "rate": min(most, place * ceilings.bytes_per_second)} for place in places]
