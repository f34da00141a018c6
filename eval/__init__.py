"""Measuring a model: public benchmarks through lmms-eval, and our own list-items-one-by-one task (`python -m eval`)."""
