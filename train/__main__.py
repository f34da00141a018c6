"""`python -m train RECIPE.yaml [key=value ...]`: one training run; under torchrun or launch.sh, one rank of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llava_som.config_file import read_options


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the options say; the exit status is 2 for an error the user can mend."""
    from train.config import help_text, parse_recipe

    argv = sys.argv[1:] if argv is None else argv
    if not argv or "--help" in argv or "-h" in argv:
        sys.stdout.write(help_text() + "\n")
        return 0
    try:
        recipe = parse_recipe(read_options(argv))
        from train.run import leave_process_group, train

        train(recipe)
        leave_process_group()
    except (ValueError, ImportError) as error:  # ImportError: attention kernels or a tracker that are not installed
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
