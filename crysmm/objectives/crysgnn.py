"""CrysGNN, the pre-trained encoder that serves as a teacher.

Das et al., CrysGNN: distilling pre-trained knowledge to enhance property prediction for crystalline materials, AAAI
(2023).

Decoders reconstruct atom features and the connectivity of every ordered pair from the encoder's atom embeddings, each
divided by its length. The mean embedding of a crystal is classified by space group and pulled toward those of the
same crystal system by a contrastive loss (NT-Xent). The four losses have weights of 0.25 as in the authors' code; the
paper gives no values. The losses of features and connectivity are means over a batch, in which larger cells weigh more.

With five convolutions of width 64 there are 162,162 parameters, plus 64 for the bias of the encoder's first layer.
Atoms with fewer neighbors than k get no extra bonds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import CrysGNNConfig
from crysmm.data.space_groups import crystal_system
from crysmm.engines.linear import precise
from crysmm.models.backbone import crystal_mean
from crysmm.objectives.corruption import Example
from crysmm.objectives.reconstruction import reconstruction_terms
from crysmm.objectives.scores import ClassAccuracy, HeldOut, HeldOutScore
from crysmm.objectives.terms import Term, mean_losses, space_groups_of

SPACE_GROUPS = 230


class SpaceGroupTerm(Term):
    """Space group, from the mean of the atom embeddings by a linear layer; cross-entropy.

    Crystals with an unknown space group do not count. Column g - 1 of the decoder is space group g.

    Args:
        weight: Factor of the loss in the objective.
        node_features: Width of the embeddings.
    """

    def __init__(self, weight: float, node_features: int):
        super().__init__(weight)
        self.decoder = nn.Linear(node_features, SPACE_GROUPS)

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss per crystal, ``[n_crystals]``."""
        space_groups = space_groups_of(example.clean)
        known = space_groups > 0
        scores = precise(self.decoder(crystal_mean(nodes, example.clean.n_atoms)))
        # An unknown space group, 0, is taken for the first to have a valid class; its loss is then masked.
        losses = functional.cross_entropy(scores, (space_groups - 1).clamp_min(0), reduction="none")
        return mean_losses(torch.where(known, losses, 0), known.to(losses.dtype), pooled=False)

    def scores(self, name: str) -> list[HeldOutScore]:
        """Return the accuracy of the classes."""
        return [ClassAccuracy(name, SPACE_GROUPS, self.classify)]

    def classify(self, held_out: HeldOut) -> tuple[Tensor, Tensor]:
        """Return the true and the predicted class of each crystal whose space group is known."""
        batch = held_out.example.clean
        space_groups = space_groups_of(batch)
        known = space_groups > 0
        predicted = self.decoder(crystal_mean(held_out.nodes, batch.n_atoms)).argmax(1)
        return space_groups[known] - 1, predicted[known]


class CrystalSystemTerm(Term):
    """Contrast of crystal systems: mean embeddings similar within a system, dissimilar between systems.

    The loss is :func:`nt_xent`, a mean over pairs of the batch and therefore the same for every crystal. Crystals with
    an unknown space group are in no pair.

    Args:
        weight: Factor of the loss in the objective.
        temperature: Divisor of the cosine similarities.
    """

    def __init__(self, weight: float, temperature: float):
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, nodes: Tensor, example: Example, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss of the batch once per crystal, ``[n_crystals]``."""
        space_groups = space_groups_of(example.clean)
        # Space group 0 is unknown, and so is the crystal system.
        known = space_groups > 0
        pooled = crystal_mean(nodes, example.clean.n_atoms)
        # In fp32, as cosines in bf16 are too coarse when they are divided by a small temperature.
        with torch.autocast(pooled.device.type, enabled=False):
            loss = nt_xent(pooled[known], crystal_system(space_groups[known]), self.temperature)
        return loss.expand(len(known))


def nt_xent(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the normalized temperature-scaled cross-entropy loss, a scalar; 0 if no label occurs twice.

    SimCLR (Chen et al., ICML 2020, equation 1) defines it for pairs of augmented images. CrysGNN takes crystals of one
    crystal system as positive pairs and crystals of other systems as negatives. With the cosine similarity ``s`` over
    the temperature, it is the mean over all ordered pairs ``(a, p)`` with the same label of

        -log(exp(s_ap) / (exp(s_ap) + sum_n exp(s_an))) = softplus(logsumexp_n(s_an) - s_ap)

    where n runs over the embeddings whose label differs from that of a. Unlike equation 1, other positives of a are not
    in the denominator. The sum over n does not depend on p and is computed once per a, so that memory grows with the
    square of the batch size.

    Args:
        embeddings: Embeddings of any length, ``[n, d]``.
        labels: Label of each embedding, ``[n]`` int64.
        temperature: Divisor of the cosine similarities.
    """
    unit = functional.normalize(embeddings, dim=1)
    scores = unit @ unit.T / temperature
    same = labels[:, None] == labels
    anchors, positives = (same ^ torch.eye(len(labels), dtype=torch.bool, device=labels.device)).nonzero(as_tuple=True)
    if not len(anchors):
        return 0 * embeddings.sum()  # zero gradients rather than none
    # Finite instead of -inf: without negatives, the logsumexp of -inf alone would have NaN gradients.
    negatives = scores.masked_fill(same, torch.finfo(scores.dtype).min).logsumexp(1)
    return functional.softplus(negatives[anchors] - scores[anchors, positives]).mean()


def crysgnn_terms(method: CrysGNNConfig, node_features: int, atom_features: int, cutoff: float) -> dict[str, Term]:
    """Build the terms with a nonzero weight, by name.

    Args:
        method: Weights and corruption.
        node_features: Width of the encoder's embeddings.
        atom_features: Number of features per atom.
        cutoff: Cutoff of the neighbor search, Angstrom.
    """
    terms = reconstruction_terms(method, node_features, atom_features, cutoff, pooled=True)
    if method.space_group_weight:
        terms["space_group"] = SpaceGroupTerm(method.space_group_weight, node_features)
    if method.crystal_system_weight:
        terms["crystal_system"] = CrystalSystemTerm(method.crystal_system_weight, method.temperature)
    return terms
