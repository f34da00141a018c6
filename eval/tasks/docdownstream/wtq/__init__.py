"""WikiTableQuestions: questions about tables of Wikipedia (arXiv 1508.00305), by denotation accuracy."""
