"""InfographicVQA: questions about infographics (arXiv 2104.12756), scored by ANLS."""
