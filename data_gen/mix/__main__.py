"""`python -m data_gen.mix`."""

import sys

from data_gen.mix.command import main

sys.exit(main())
