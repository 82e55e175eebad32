"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020), with labels."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import GenericPairLoss
from torch import Tensor
from torch.nn import functional


class NTXent(GenericPairLoss):
    """The loss of ``pytorch_metric_learning.losses.NTXentLoss``, in the memory of one matrix of the batch.

    For every ordered pair (a, p) with the same label, ``-log(e_ap / (e_ap + sum_n e_an))``, where e is the exponential
    of the cosine over the temperature and n runs over what has another label than a; the mean over these pairs.

    That library writes every negative pair beside every positive one, which takes memory as the cube of the batch:
    2.7 s for 128 crystals on one core, and 50 GB for 512. Here the sum over n is taken once an a. Cosines, pairs and
    the mean stay the library's.

    Args:
        temperature: cosines are divided by it.
    """

    def __init__(self, temperature: float):
        super().__init__(mat_based_loss=True)
        self.temperature = temperature

    def get_default_distance(self) -> CosineSimilarity:
        """Cosines, as NTXentLoss."""
        return CosineSimilarity()

    def _compute_loss(self, mat: Tensor, pos_mask: Tensor, neg_mask: Tensor) -> dict[str, Any]:
        anchors, positives = pos_mask.nonzero(as_tuple=True)
        if not len(anchors):
            return self.zero_losses()
        scores = mat / self.temperature
        smallest = torch.finfo(scores.dtype).min
        negatives = scores.masked_fill(neg_mask == 0, smallest).logsumexp(1)
        losses = functional.softplus(negatives[anchors] - scores[anchors, positives])
        return {"loss": {"losses": losses, "indices": (anchors, positives), "reduction_type": "pos_pair"}}
