"""Training on labels and on a teacher's atom embeddings: the distillation of CrysGNN.

The loss is ``delta * criterion + (1 - delta) * distillation``. The distillation loss of a crystal is the squared
difference between the student's and the teacher's embeddings after the last message-passing layer, each divided by its
length, averaged over atoms and features. That of a batch is the mean over its crystals, so that large crystals do not
weigh more (Das et al., CrysGNN, AAAI 2023, and the authors' code). For unit vectors of width d, the mean over the
features is ``(2 - 2 cos) / d``, which is small next to a criterion of standardized targets.

Differences from the authors' code, which trains a CGCNN of the teacher's width:

- Their teacher was never set to evaluation mode, so that its batch norms used the statistics of the student's batches.
  Here its embeddings are computed in evaluation mode, on its own graphs, before training begins.
- Their loss of the labels is the mean squared error; here it is ``criterion``, whose ``mse`` is theirs.
- ``delta`` may be ``rising``, which is not in the paper: it is the fraction of the training steps that are done. The
  student first learns to embed like its teacher and then, more and more, the property. The distillation loss is then
  the squared distance of the unit vectors, as written in the paper. With the mean over the features, the labels would
  soon dominate. ``docs/results/few_labels.md`` compares both.
- The teacher may be a universal potential, whose features are standardized over the atoms of the training split before
  they are divided by their length.
- What is matched may be of crystals instead of atoms (``matched``), which is not in the paper. ``crystals`` is the mean
  of the teacher's embeddings over the atoms of a crystal, which the student's crystal embedding is to be like.
  ``relations`` is how similar the crystals of a batch are: the crystal embeddings of student and teacher are each
  centered on their mean over the batch, and the loss of a crystal is the mean squared difference of its cosine
  similarities to all crystals of the batch (Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019;
  Park et al., Relational Knowledge Distillation, CVPR 2019). It needs no projection, which would learn a part of what
  is matched and is thrown away.
- The authors do not say how to handle a student and a teacher of different widths. Here a linear layer maps the
  student's embeddings to the teacher's width before they are divided by their lengths. It is trained with the student
  and not saved in the model folder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.models import RISING, Matched, Projection, Rising
from crysmm.config.training import Criterion
from crysmm.data.batch import CrystalBatch
from crysmm.data.scaler import TargetScaler
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.backbone import Embedding, crystal_mean
from crysmm.models.networks import PropertyNetwork
from crysmm.objectives.property import PropertyObjective, TargetWeights


class DistillationObjective(PropertyObjective):
    """A property objective whose network also learns to embed atoms like a teacher.

    The metrics are those of :class:`PropertyObjective`, and ``distillation``, the distillation loss.

    Args:
        network: Student; with ``delta`` 1 it is trained exactly as without a teacher.
        scaler: Conversion between the units of the input and those of the network.
        criterion: Loss of the labels.
        delta: Weight of the criterion, from 0 to 1, or ``rising``.
        projection: Module that maps the student's embeddings to the teacher's width; see :func:`make_projection`.
        weights: As in :class:`PropertyObjective`.
        matched: What the student learns to imitate: ``atoms``, ``crystals`` or ``relations``.
    """

    def __init__(
        self,
        network: PropertyNetwork,
        scaler: TargetScaler,
        criterion: Criterion,
        delta: float | Rising,
        projection: nn.Module,
        weights: TargetWeights | None = None,
        matched: Matched = "atoms",
    ):
        super().__init__(network, scaler, criterion, weights)
        self.matched = matched
        self.delta = delta
        self.projection = projection

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the weighted mean of both losses plus the penalty of the backbone."""
        embedding = self.network.embed(batch)  # one forward pass for both losses
        labels = self.label_losses(self.network.read(embedding, batch), batch).mean()
        distillation = self.distillation(embedding, batch).mean()
        delta = self.delta
        if delta == RISING:
            delta = self.progress
            if self.matched != "relations":  # times the width: the squared distance, a sum over the features
                assert batch.teacher_features is not None
                distillation = distillation * batch.teacher_features.shape[1]
        return delta * labels + (1 - delta) * distillation + self.network.backbone.penalty()

    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return ``loss`` of the labels, the error and ``distillation``, per crystal."""
        embedding = self.network.embed(batch)
        labels = self.label_metrics(self.network.read(embedding, batch), batch)
        return {**labels, "distillation": self.distillation(embedding, batch).double()}

    def distillation(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """Return the distillation loss per crystal, ``[n_crystals]``.

        Args:
            embedding: Embeddings by the student.
            batch: Batch with the embeddings by the teacher.
        """
        if batch.teacher_features is None:
            raise ValueError("the batch has no embeddings of a teacher; give them to its loader")
        # The teacher's embeddings were divided by their lengths when they were stored.
        if self.matched == "atoms":
            student = functional.normalize(precise(self.projection(embedding.nodes)), dim=1)
            differences = (student - batch.teacher_features).square().mean(1, keepdim=True)
            return crystal_mean(differences, batch.n_atoms).squeeze(1)
        teacher = crystal_mean(batch.teacher_features, batch.n_atoms)
        if self.matched == "crystals":
            student = functional.normalize(precise(self.projection(embedding.graph)), dim=1)
            return (student - functional.normalize(teacher, dim=1)).square().mean(1)
        return (similarities(precise(embedding.graph)) - similarities(teacher)).square().mean(1)


def similarities(crystals: Tensor) -> Tensor:
    """Return the cosine similarities of crystal embeddings, centered on their mean, ``[n_crystals, n_crystals]``."""
    directions = functional.normalize(crystals - crystals.mean(0), dim=1)
    return directions @ directions.T


def make_projection(kind: Projection, student: int, teacher: int, seed: int) -> nn.Module:
    """Build the map from a student's embeddings to the teacher's width, without using torch's random states.

    Args:
        kind: Linear layer if the widths differ (``auto``), always (``linear``) or never (``none``).
        student: Width of the student's embeddings.
        teacher: Width of the teacher's embeddings.
        seed: Seed of the layer's weights, drawn from the default distribution of :class:`torch.nn.Linear`.

    Raises:
        InputError: The widths differ and ``kind`` is ``none``.
    """
    if kind == "none" and student != teacher:
        raise InputError(
            f"--head.projection none needs a student as wide as its teacher: their atom embeddings have {student} and "
            f"{teacher} features; give --head.projection auto, or the student {teacher} features"
        )
    if kind == "none" or (kind == "auto" and student == teacher):
        return nn.Identity()
    # Drawing from a generator keeps all other weights of a run the same with and without a projection.
    layer = nn.utils.skip_init(nn.Linear, student, teacher)
    generator = torch.Generator().manual_seed(seed)
    for weights in (layer.weight, layer.bias):
        nn.init.uniform_(weights, -(student**-0.5), student**-0.5, generator=generator)
    return layer
