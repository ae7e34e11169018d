"""Benchmarks as data: a suite says which sets, prompts, presets and seeds; `run_benchmark` runs the cells
that are missing, scores all of them and writes a leaderboard that anyone can run again. It stands above
`pipelines`, which makes masks, and `evaluation`, which scores them: neither knows of the other.
"""

from lexiseg.suites.leaderboard import Leaderboard
from lexiseg.suites.reading import load_suite
from lexiseg.suites.run import BenchmarkRequest, BenchmarkSummary, run_benchmark
from lexiseg.suites.suite import Suite

__all__ = ["BenchmarkRequest", "BenchmarkSummary", "Leaderboard", "Suite", "load_suite", "run_benchmark"]
