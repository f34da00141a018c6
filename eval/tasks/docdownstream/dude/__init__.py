"""DUDE: questions about documents of many kinds and pages (arXiv 2305.08455), the validation set, by ANLS."""
