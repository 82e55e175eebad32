"""``python -m crysmm`` is the command ``crysmm``."""

import sys

from crysmm.cli.main import main

sys.exit(main())
