"""CrysMMNet: Das et al., CrysMMNet: Multimodal representation for crystal property prediction, UAI 2023.

Graph and text are projected to the same width and fused by two layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crysmm.config.models import Link
from crysmm.engines.linear import precise
from crysmm.models.backbone import Embedding
from crysmm.models.heads import apply_link

PROJECTED = 64  # width of the projections of graph and text, by the authors' code


class ProjectionHead(nn.Module):
    """Projection to width 64 with a residual branch (CrysMMNet): ``LayerNorm(p + Dropout(Linear(GELU(p))))``, p linear.

    Args:
        features: Width of the rows.
    """

    def __init__(self, features: int):
        super().__init__()
        self.projection = nn.Linear(features, PROJECTED)
        self.branch = nn.Sequential(nn.GELU(), nn.Linear(PROJECTED, PROJECTED), nn.Dropout(0.1))
        self.norm = nn.LayerNorm(PROJECTED)

    def forward(self, rows: Tensor) -> Tensor:
        """Project ``[n, features]`` to ``[n, 64]``."""
        projected = self.projection(rows)
        return self.norm(projected + self.branch(projected))


class MultimodalHead(nn.Module):
    """Fusion of graph and text, projected to width 64 each, by two layers (CrysMMNet: Das et al., UAI 2023).

    A crystal without a description has a learned vector in place of its projected text.

    Args:
        graph_features: Width of the crystal embeddings.
        text_features: Width of the text embeddings.
        n_outputs: Number of columns of the prediction.
        link: Quantity that the output layer predicts; see :func:`apply_link`.
        encoder: Module that embeds the tokens in a batch; None for batches that hold embeddings.
    """

    def __init__(
        self,
        graph_features: int,
        text_features: int,
        n_outputs: int,
        link: Link = "identity",
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = nn.Identity() if encoder is None else encoder
        self.link: Link = link
        self.graph = ProjectionHead(graph_features)
        self.text = ProjectionHead(text_features)
        self.no_text = nn.Parameter(torch.zeros(PROJECTED))
        self.fusion = nn.Sequential(nn.Linear(2 * PROJECTED, PROJECTED), nn.ReLU())
        self.output = nn.Linear(PROJECTED, n_outputs)

    def forward(self, embedding: Embedding, texts: Tensor | None, shift: Tensor | float = 0.0) -> Tensor:
        """Predict ``[n_crystals, n_outputs]``.

        Args:
            embedding: Embeddings of the graphs.
            texts: Text embeddings, ``[n_crystals, text_features]``, NaN for a crystal without one; or the input of
                ``encoder``.
            shift: Addition to the outputs before the link, ``[n_crystals, 1]``.

        Raises:
            ValueError: The batch has no texts.
        """
        if texts is None:
            raise ValueError("the batch has no embeddings of texts; give them to its loader")
        texts = precise(self.encoder(texts))
        is_missing = texts[:, :1].isnan()  # a missing text is NaN in every column
        with torch.autocast(texts.device.type, enabled=False):  # for so few rows bf16 costs more than it saves
            # without NaN in the branch that is not selected: its gradient would be NaN, not 0
            text = torch.where(is_missing, self.no_text, self.text(texts.nan_to_num()))
            graph = self.graph(precise(embedding.graph))
            return apply_link(self.output(self.fusion(torch.cat([graph, text], dim=1))) + shift, self.link)
