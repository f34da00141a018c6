"""Kleister Charity (KLC): eight fields of charities' reports (arXiv 2105.05796), by the DUE benchmark's micro F1."""
