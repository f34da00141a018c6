"""Scorers of document benchmarks: one file per kind of answer, pure functions of texts, without lmms-eval."""
