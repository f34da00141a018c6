"""The test sets of DocDownstream-1.0 and -2.0 (mPLUG-DocOwl 1.5, arXiv 2403.12895; DocOwl2, arXiv 2409.03420)."""
