"""Triplets and metrics to train, small enough for a test."""

from __future__ import annotations

import pytest
import torch

from tests.training import toy


@pytest.fixture
def untrained():
    """``make(config, seed)``: a metric with random weights; plain AlexNet where nothing is said."""
    return toy.untrained


@pytest.fixture
def triplets(image_pair):
    """``make(n, size)``: items as TwoAFCDataset gives them; p1 has less noise in every second."""

    def make(n, size=64):
        ref, _ = image_pair("photographs", n, size, size)
        generator = torch.Generator().manual_seed(1)
        items = []
        for index, image in enumerate(ref):
            strong, weak = (
                toy.quantized(image + scale * torch.randn(image.shape, generator=generator))
                for scale in (0.5, 0.1)
            )
            p0, p1 = (strong, weak) if index % 2 else (weak, strong)
            items.append(
                {
                    "ref": toy.quantized(image),
                    "p0": p0,
                    "p1": p1,
                    "judge": float(index % 2),
                    "subset": "traditional",
                    "sample": f"{index:06d}",
                }
            )
        return items

    return make
