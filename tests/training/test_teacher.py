"""Triplets with the teacher's distances beside them."""

import pandas as pd
import pytest
import torch

from robust_lpips.comparison import l2
from robust_lpips.data import sample_dataset
from robust_lpips.data.sample import JUDGE, judge_distances
from robust_lpips.evaluation import read_distances
from robust_lpips.training import WithTeacher, with_teacher
from tests.training import toy

ITEMS = [{"subset": "traditional", "sample": f"00000{i}", "judge": 1.0} for i in range(2)]
DISTANCES = pd.DataFrame(
    [
        ("traditional", "000001", "full", 0.3, 0.4),
        ("traditional", "000000", "full", 0.1, 0.2),
        ("traditional", "000000", "shift-0", 0.8, 0.9),
    ],
    columns=["subset", "sample", "view", "d0", "d1"],
)


def test_each_item_has_its_own_distances_of_the_whole_patches():
    dataset = WithTeacher(ITEMS, DISTANCES)
    assert len(dataset) == 2
    torch.testing.assert_close(dataset[0]["teacher"], torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(dataset[1]["teacher"], torch.tensor([0.3, 0.4]))
    assert dataset[1]["judge"] == 1.0


def test_missing_sample():
    dataset = WithTeacher(ITEMS, DISTANCES[DISTANCES["sample"] != "000001"])
    with pytest.raises(ValueError, match="lack the sample traditional/000001"):
        dataset[1]


class TestWithTeacher:
    def test_measured_once(self, tmp_path):
        items, path = toy.items(3, 32), tmp_path / "teacher.csv.gz"
        dataset = with_teacher(items, "l2", path)
        images = [item["ref"] / 127.5 - 1 for item in items], [i["p1"] / 127.5 - 1 for i in items]
        expected = l2(*map(torch.stack, images))
        found = torch.stack([dataset[i]["teacher"][1] for i in range(3)])
        torch.testing.assert_close(found, expected)
        read_distances(path).assign(d1=7.0).to_csv(path, index=False)
        assert with_teacher(items, "l2", path)[0]["teacher"][1] == 7.0

    def test_the_sample_set_brings_those_of_its_judge(self, tmp_path):
        dataset, path = sample_dataset(tmp_path, "train", n=2, image_size=32), tmp_path / "t.csv.gz"
        expected = judge_distances(dataset)[["d0", "d1"]].to_numpy()
        found = with_teacher(dataset, JUDGE, path)
        assert torch.stack([item["teacher"] for item in found]).numpy() == pytest.approx(expected)
        assert not path.exists()
        with_teacher(dataset, "l2", path)
        assert path.exists()

    def test_unknown_teacher(self, tmp_path):
        with pytest.raises(ValueError, match=r"metric must be one of l2, .*got 'teacher'"):
            with_teacher(toy.items(2, 32), "teacher", tmp_path / "t.csv.gz")
