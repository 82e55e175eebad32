"""Entry point of ``python -m crysmm``."""

import sys

from crysmm.cli.main import main

sys.exit(main())
