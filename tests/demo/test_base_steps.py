"""A base's training that was cut off goes on to the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dtrak_core.demo import base_steps


def test_a_training_that_was_cut_off_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_steps, "SAVE_EVERY", 2)

    def trained(kept: Path | None, cut: int = 0) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 2)
        steps = []

        def drawn(random: np.random.Generator) -> list[torch.Tensor]:
            return [torch.from_numpy(random.standard_normal((4, 3), dtype=np.float32))]

        def loss_of(x: torch.Tensor) -> torch.Tensor:
            step = len(steps) + (0 if kept is None or cut else 2)
            if cut and step == cut:
                raise KeyboardInterrupt
            steps.append(step)
            return (network(x) - x[:, :2]).square().mean()

        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
        average = base_steps.trained(optimizer, drawn, loss_of, "x", 6, kept, lambda *told: None)
        assert steps == (list(range(6)) if kept is None else [2, 3, 4, 5])
        return [*average, *(p.detach() for p in network.parameters())]

    whole, kept = trained(None), tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        trained(kept, cut=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, trained(kept), strict=True))
