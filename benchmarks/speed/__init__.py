"""The parts of benchmarks/run.py, one measurement each."""
