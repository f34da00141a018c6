"""DocVQA: questions about scanned industry documents (arXiv 2007.00398), scored by ANLS."""
