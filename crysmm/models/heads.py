"""Head that most networks have: the readout of the backbone's authors, and the link of its outputs to the targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crysmm.config.models import Link
from crysmm.engines.linear import precise
from crysmm.models.backbone import Backbone, Embedding


def apply_link(outputs: Tensor, link: Link) -> Tensor:
    """Convert the output layer's prediction of a target, its logarithm or its logit into the target."""
    if link == "log":
        return torch.exp(outputs)
    if link == "logit":
        return torch.sigmoid(outputs)
    return outputs


class VanillaHead(nn.Module):
    """Hidden layers of the backbone's authors, then one linear layer.

    Args:
        backbone: Backbone whose readout is used.
        n_outputs: Number of columns of the prediction.
        link: Quantity that the output layer predicts; see :func:`apply_link`.
    """

    def __init__(self, backbone: Backbone, n_outputs: int, link: Link = "identity"):
        super().__init__()
        self.link: Link = link
        self.hidden, features = backbone.readout()
        self.output = nn.Linear(features, n_outputs)

    def forward(self, embedding: Embedding, texts: Tensor | None, shift: Tensor | float = 0.0) -> Tensor:
        """Predict ``[n_crystals, n_outputs]``; texts are not read, and ``shift`` is added before the link."""
        return apply_link(precise(self.output(self.hidden(embedding.graph))) + shift, self.link)
