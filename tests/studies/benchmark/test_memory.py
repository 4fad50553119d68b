"""Suite memory: triplets that are repeated, and the increase of the peak."""

import sys

import pytest

from robust_lpips.data import TwoAFCDataset
from robust_lpips.evaluation.memory import Footprint
from robust_lpips.studies.benchmark import memory
from robust_lpips.studies.benchmark.memory import (
    MemorySettings,
    measured_footprint,
    repeat_triplets,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_triplets_are_repeated(tmp_path):
    repeat_triplets(tmp_path, memory.DISTINCT + 2)
    dataset = TwoAFCDataset(tmp_path)
    assert len(dataset) == memory.DISTINCT + 2
    assert (dataset[0]["p1"] == dataset[memory.DISTINCT]["p1"]).all()
    assert (dataset[0]["p1"] != dataset[1]["p1"]).any()


@linux
def test_footprint_of_measuring(tmp_path):
    repeat_triplets(tmp_path, memory.DISTINCT)
    found = measured_footprint(tmp_path, "cpu")
    assert 0 < found.start <= found.peak


@linux
class TestMeasure:
    @pytest.fixture
    def processes(self, monkeypatch):
        """What each process finds: as much again and 2 % more for the many, less for the peer."""
        found = iter([Footprint(300.0, 400.0), Footprint(300.0, 408.0), Footprint(200.0, 250.0)])
        monkeypatch.setattr(memory, "in_fresh_process", lambda *_: next(found))
        monkeypatch.setattr(memory, "repeat_triplets", lambda root, n: None)

    def test_increase(self, processes):
        result = memory.measure(MemorySettings(n=5000), "cpu")
        assert result.table["triplets"].tolist()[:2] == [500, 5000]
        assert result.table["increase"][1] == pytest.approx(2.0)
        assert result.table["increase"].isna().tolist() == [True, False, True]
        assert result.table["peak"].tolist() == [400.0, 408.0, 250.0]

    def test_too_few_triplets(self):
        with pytest.raises(ValueError, match="n must be at least 240; got 239"):
            MemorySettings(n=239)
