"""Suite memory: what is read of /proc, what is seen of an allocation, and the page."""

import sys

import numpy as np
import pytest

from robust_lpips.data import TwoAFCDataset
from robust_lpips.studies.base import LeftOut
from robust_lpips.studies.benchmark import memory
from robust_lpips.studies.benchmark.memory import (
    Footprint,
    MemorySettings,
    measured_footprint,
    peak_of,
    repeat_triplets,
)

STATUS = """\
VmRSS:\t  812340 kB
RssAnon:\t  612340 kB
RssFile:\t  200000 kB
RssShmem:\t       0 kB
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def status(monkeypatch, tmp_path):
    """File that the memory is read from; it does not exist."""
    path = tmp_path / "status"
    monkeypatch.setattr(memory, "_STATUS", path)
    return path


def test_anonymous_memory_of_the_status(status):
    status.write_text(STATUS)
    found = peak_of(lambda: status.write_text(STATUS.replace("612340", "712340")))
    assert found == Footprint(612340 / 1024, 712340 / 1024)


@pytest.mark.parametrize("text", [None, "VmRSS:\t 12 kB\n"])
def test_other_systems(status, text):
    if text is not None:
        status.write_text(text)
    with pytest.raises(LeftOut, match="which Linux has"):
        memory.measure(MemorySettings(n=5000), "cpu")


@linux
def test_peak_sees_what_is_held():
    held = []
    found = peak_of(lambda: held.append(np.ones(2**24)))
    assert found.peak - found.start > 100


@linux
def test_peak_of_work_that_fails():
    def fail():
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        peak_of(fail)


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
        monkeypatch.setattr(memory, "_in_fresh_process", lambda *_: next(found))
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
