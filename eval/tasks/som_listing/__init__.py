"""Listing the marked objects one by one (SoM-LLaVA, arXiv 2404.16375, section 5.2)."""
