"""What can be set: graphs, models, training; and how a file and a command line become settings."""

from crysmm.config.graph import GraphSettings
from crysmm.config.head import HeadConfig, VanillaConfig
from crysmm.config.loading import load_config
from crysmm.config.models import ALIGNNConfig, CGCNNConfig, GATGNNConfig, ModelConfig
from crysmm.config.training import TrainingConfig

__all__ = [
    "ALIGNNConfig",
    "CGCNNConfig",
    "GATGNNConfig",
    "GraphSettings",
    "HeadConfig",
    "ModelConfig",
    "TrainingConfig",
    "VanillaConfig",
    "load_config",
]
