"""DocLocal4K: text to box and box to text for words, phrases, lines and blocks (mPLUG-DocOwl 1.5, arXiv 2403.12895)."""
