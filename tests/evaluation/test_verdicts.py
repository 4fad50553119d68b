"""Two tables of distances: how far apart they are, and whether their verdicts agree."""

import pandas as pd
import pytest

from robust_lpips.evaluation.verdicts import differing_verdicts, largest_difference

VIEWS = ["full", "shift-0", "shift-1", "shift-2", "shift-3"]
PLAIN = pd.DataFrame(
    [
        {"subset": "s", "sample": name, "view": view, "d0": 0.2, "d1": 0.1, "judge": 1.0}
        for name in "abc"
        for view in VIEWS
    ]
)


def test_differing_verdicts_are_counted():
    changed = PLAIN.copy()
    changed.loc[[0, 11], ["d0", "d1"]] = [0.1, 0.2]
    assert differing_verdicts(PLAIN, PLAIN) == 0
    assert differing_verdicts(changed.sample(frac=1, random_state=0), PLAIN) == 2


def test_tables_of_other_samples():
    with pytest.raises(ValueError, match="same samples and views; got 15 and 14 rows"):
        differing_verdicts(PLAIN, PLAIN.iloc[1:])


def test_largest_difference_is_over_the_median():
    turned = PLAIN.assign(d0=PLAIN["d0"].where(PLAIN.index != 2, 0.09))
    assert largest_difference(turned, PLAIN) == pytest.approx(0.11 / 0.15)
