"""MP-DocVQA: questions about documents of up to 20 pages (arXiv 2212.05935), the validation set, by ANLS."""
