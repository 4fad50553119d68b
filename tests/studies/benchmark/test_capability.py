"""Capability: rates from a clock that is not real, and a compiler that does not work."""

import torch

from robust_lpips.studies.base.machine import multiply_accumulates
from robust_lpips.studies.benchmark import capability
from robust_lpips.weights import release


def test_peaks(monkeypatch):
    # One call in 2 s of matrices of side 64, whose product takes 2 * 64^3 operations.
    monkeypatch.setattr(capability, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(capability, "_BATCH", {"cpu": 1})
    monkeypatch.setattr(capability, "seconds_of", lambda work, device: work() is None or 2.0)
    found = capability.peaks("cpu")
    assert found.matmul == 64**3
    assert found.kernel == 5
    assert found.convolution == 32**2 * 256**2 * 25


def test_no_compiler(monkeypatch):
    def broken(images):
        raise RuntimeError("No working C++ compiler found\nin torch")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    assert capability.compiler_problem("cpu") == "No working C++ compiler found"


def test_multiply_accumulates_backward():
    config = release("alexnet-shift-tolerant").config
    forward = multiply_accumulates(config, 64)
    # Backward computes gradients of features and of weights, but none of the images.
    assert 2 * forward < multiply_accumulates(config, 64, backward=True) < 3 * forward
    assert multiply_accumulates(config, 64, 61) < forward == multiply_accumulates(config, 64, 64)
