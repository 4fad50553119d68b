"""Capability: rates from a clock that is not real, and a compiler that does not work."""

import torch

from robust_lpips.evaluation import capability


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


def test_shares_are_of_the_matrix_multiply():
    peaks = capability.Peaks(side=8, matmul=200.0, kernel=3, convolution=400.0)
    shares = peaks.shares({"ours": 5.0, "released": 2.5}, multiply_accumulates=5)
    assert shares == {"ours_share": 25.0, "released_share": 12.5}
