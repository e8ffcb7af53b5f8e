"""Pages that work without a network: templates, and the library that draws charts, made safe to embed."""

from importlib.resources import files
from typing import Any

from bench.system.extras import require


def render(template: str, **values: Any) -> str:
    """A template of `bench/templates`, with every value escaped that it does not mark as safe."""
    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text: str = environment.from_string(file(template)).render(**values)
    return text


def file(name: str) -> str:
    """A file of `bench/templates`."""
    return files("bench.views").joinpath("templates", name).read_text(encoding="utf-8")


def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which no text in it ends early."""
    library: str = require("vl_convert", "report").javascript_bundle()
    return library.replace("</script", r"<\/script")
