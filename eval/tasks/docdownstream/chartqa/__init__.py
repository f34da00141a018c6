"""ChartQA: questions about charts (arXiv 2203.10244), human and augmented ones together, by relaxed accuracy."""
