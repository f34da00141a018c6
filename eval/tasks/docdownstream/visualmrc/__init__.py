"""VisualMRC: questions about screenshots of web pages, answered in sentences (arXiv 2101.11272)."""
