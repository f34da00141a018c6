"""Checks of an annotator's answer against the sidecar: what fails one never becomes training data.

Every check is a pure function that returns `Finding`s; recipes put them together and choose the limits.
"""
