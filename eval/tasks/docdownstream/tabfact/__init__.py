"""TabFact: does a table support a statement, true or false (arXiv 1909.02164)."""
