"""Benchmarks of securerecv, each measured beside its ceiling in the same run."""
