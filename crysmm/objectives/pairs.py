"""Classes of pairs of atoms from their embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crysmm.engines.linear import linear


class PairClassifier(nn.Module):
    """A bilinear form a class, then a linear layer over the classes, as CrysAE's decoders have it.

    Both are linear in the form's values, so that together they are one bilinear form a class. That is what is
    computed, with matrix products and without a copy of the weights' products for every pair.

    Args:
        features: width of the embeddings.
        classes: number of classes.
    """

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.bilinear = nn.Bilinear(features, features, classes)
        self.output = nn.Linear(classes, classes)

    def project(self, nodes: Tensor) -> Tensor:
        """``[n, classes, d]``: the products of the first atom's embedding with the forms."""
        forms = torch.einsum("ck,kde->dce", self.output.weight, self.bilinear.weight)
        return linear(nodes, forms.flatten(1).t()).view(len(nodes), *forms.shape[1:])

    def bias(self) -> Tensor:
        """``[classes]``, to be added to the products."""
        return self.output(self.bilinear.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores of every pair of a first and a second atom of a crystal.

        Args:
            first: ``[n_crystals, S, classes, d]``, projected.
            second: ``[n_crystals, T, d]``.

        Returns:
            ``[n_crystals * S, classes, T]``.
        """
        n_crystals, n_first, classes, _ = first.shape
        products = first.flatten(1, 2) @ second.mT
        return products.view(n_crystals * n_first, classes, second.shape[1]) + self.bias()[:, None]
