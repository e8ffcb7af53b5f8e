"""The `throughput` fixture for pytest: a case of a suite inside pytest-benchmark, with a gate.

Loaded by every pytest run if seqboat-bench is installed, so nothing is imported before a test asks. It
stands outside of the package `bench`, because the project under test may have a `bench` of its own.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bench.gate.throughput import Throughput


@pytest.fixture
def throughput(request: pytest.FixtureRequest) -> "Throughput":
    """`throughput(suite, implementation, tolerance=0.05, against="baseline.jsonl")`; see `bench/gate/`."""
    if not request.config.pluginmanager.has_plugin("benchmark"):
        pytest.fail("throughput needs pytest-benchmark: pip install 'seqboat-bench[pytest]'", pytrace=False)
    try:
        from bench.gate.throughput import Throughput
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("bench"):
            raise
        import bench

        where = getattr(bench, "__file__", None) or f"the folder {next(iter(bench.__path__))}"
        pytest.fail(
            f"throughput needs the package bench of seqboat-bench, and here bench is {where}: "
            "keep tests of speed in a project, or a folder, without a bench of its own",
            pytrace=False,
        )
    return Throughput(request.getfixturevalue("benchmark"), request.path.parent)
