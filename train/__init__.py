"""Strict recipes, stages that say what learns, checks before the first step; HF Trainer and DeepSpeed do the rest."""
