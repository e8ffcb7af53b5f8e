"""The `throughput` fixture for pytest: a case of a suite inside pytest-benchmark, with a gate.

Loaded by every pytest run where this package is installed, so nothing is imported before a test asks.
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
    from bench.gate.throughput import Throughput

    return Throughput(request.getfixturevalue("benchmark"))
