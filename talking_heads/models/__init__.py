"""The three networks of the paper, one a file. Their module paths are stored in published models and never move."""

from .discriminator import Discriminator
from .embedder import Embedder
from .generator import Generator

__all__ = ["Discriminator", "Embedder", "Generator"]
