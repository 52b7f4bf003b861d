"""The running average of a network's parameters, with which it is tested and published."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """Exponential moving average of a network's parameters (not in the paper; its co-author's code tests with it)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Starts from the model's present weights."""
        self.count = 0
        for name, value in model.named_parameters():
            self.values[name].copy_(value)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; the first steps weigh more, so that the random start is forgotten."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        get_ema_multi_avg_fn(decay)(list(self.values.values()), [value.detach() for value in model.parameters()], 0)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.values = {name: value.to(self.values[name].device) for name, value in state["values"].items()}

    def copy_to(self, model: nn.Module) -> None:
        """Writes the average into a network of the same architecture."""
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(self.values[name])
