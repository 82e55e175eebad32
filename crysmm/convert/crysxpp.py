"""CrysXPP's checkpoints (github.com/kdmsit/crysxpp): CGCNN's with a weight for each atom feature, ``mask``.

They are those of the authors' last code. An encoder of theirs (CrysAE) is saved as a whole object, which is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crysmm.convert.cgcnn import convert_cgcnn
from crysmm.convert.checkpoint import Checkpoint
from crysmm.convert.conversion import Conversion


def convert_crysxpp(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Conversion:
    """The model of a checkpoint; see :func:`crysmm.convert.cgcnn.convert_cgcnn`."""
    return convert_cgcnn(checkpoint, settings, "crysxpp")
