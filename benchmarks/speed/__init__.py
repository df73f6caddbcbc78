"""The parts of benchmarks/run.py, one question each."""
