"""Memory: what is read of /proc, and what is seen of an allocation."""

import os
import sys

import numpy as np
import pytest

from robust_lpips.evaluation import memory
from robust_lpips.evaluation.memory import Footprint, in_fresh_process, peak_of

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
    with pytest.raises(NotImplementedError, match="which Linux has"):
        peak_of(lambda: None)


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


def test_fresh_process():
    assert in_fresh_process(os.getpid) != os.getpid()
