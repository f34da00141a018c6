"""Several data sets into one training file: weighted, shuffled, checked, with every image where one root finds it."""

from data_gen.mix.command import main

__all__ = ["main"]
