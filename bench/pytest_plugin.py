"""The pytest plug-in by its former name, for `-p bench.pytest_plugin`; it is `seqboat_bench_pytest`."""

from seqboat_bench_pytest import throughput

__all__ = ["throughput"]
