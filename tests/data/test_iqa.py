import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips.data import GradedSeverities, IQADataset
from robust_lpips.data.iqa import KADID10K_TYPES, LIVE_TYPES, TID2013_TYPES
from robust_lpips.data.photographs import load_photographs
from robust_lpips.distortions.traditional import TRADITIONAL
from robust_lpips.evaluation import measure


def image(path, value: int, size: tuple[int, int] = (6, 4)) -> None:
    """An image of one grey, of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def greys(dataset: IQADataset) -> list[tuple[int, int]]:
    """Of each item the grey of its reference and of its distorted image."""
    items = [dataset[i] for i in range(len(dataset))]
    return [tuple(int(item[name].unique()) for name in ("p0", "p1")) for item in items]


@pytest.fixture
def csiq(tmp_path):
    image(tmp_path / "src_imgs" / "1600.png", 10)
    image(tmp_path / "src_imgs" / "boston.png", 20, (8, 5))
    image(tmp_path / "dst_imgs" / "awgn" / "1600.AWGN.1.png", 11)
    image(tmp_path / "dst_imgs" / "jpeg2000" / "1600.jpeg2000.2.png", 12)
    image(tmp_path / "dst_imgs" / "contrast" / "boston.contrast.5.png", 21, (8, 5))
    image(tmp_path / "dst_imgs" / "blur" / "boston.BLUR.1.png", 22, (8, 5))  # has no score
    return tmp_path


CSIQ_SAMPLES = ["1600.AWGN.1", "1600.jpeg2000.2", "boston.contrast.5"]


def check_csiq(dataset):
    assert dataset.name == "CSIQ"
    assert dataset.higher_is_better is False
    assert [pair.sample for pair in dataset.samples] == CSIQ_SAMPLES
    assert [pair.subset for pair in dataset.samples] == ["awgn", "jpeg2000", "contrast"]
    assert [dataset[i]["score"] for i in range(3)] == [0.062, 0.206, 0.7]
    assert greys(dataset) == [(10, 11), (10, 12), (20, 21)]
    assert [dataset.reference_of(s) for s in CSIQ_SAMPLES] == ["1600", "1600", "boston"]


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_csiq_with_labels_as_text(csiq, suffix):
    scores = zip(CSIQ_SAMPLES, (0.062, 0.206, 0.7), strict=True)
    lines = "".join(f"{name}{suffix} {score}\n" for name, score in scores)
    (csiq / "csiq_label.txt").write_text(lines.upper().replace(".PNG", ".png"))
    check_csiq(IQADataset.csiq(csiq))


@pytest.mark.parametrize("above", [0, 3])
def test_csiq_with_the_published_workbook(csiq, above):
    pytest.importorskip("openpyxl", reason="openpyxl writes the workbook")
    table = pd.DataFrame(
        {
            "image": [1600, 1600, "boston"],
            "dst_idx": [1, 3, 6],
            "dst_type": ["noise", "jpeg 2000", "contrast"],
            "dst_lev": [1, 2, 5],
            "dmos_std": [0.01, 0.02, 0.03],
            "dmos": [0.062, 0.206, 0.7],
        }
    )
    with pd.ExcelWriter(csiq / "csiq.DMOS.xlsx") as writer:
        pd.DataFrame({"text": ["CSIQ"]}).to_excel(writer, sheet_name="README", index=False)
        table.to_excel(writer, sheet_name="all_by_image", index=False, startrow=above, startcol=2)
    check_csiq(IQADataset.csiq(csiq))


def test_csiq_without_openpyxl(csiq, monkeypatch):
    def read_excel(*args, **options):
        raise ImportError("Missing optional dependency 'openpyxl'.")

    (csiq / "csiq.DMOS.xlsx").touch()
    monkeypatch.setattr(pd, "read_excel", read_excel)
    with pytest.raises(ImportError, match=r"pip install openpyxl.*csiq_label.txt"):
        IQADataset.csiq(csiq)


def test_csiq_without_scores(csiq):
    with pytest.raises(FileNotFoundError, match=r"expected csiq_label.txt or csiq.DMOS.xlsx"):
        IQADataset.csiq(csiq)


@pytest.fixture
def tid(tmp_path):
    image(tmp_path / "reference_images" / "I01.BMP", 10)
    image(tmp_path / "reference_images" / "i25.bmp", 20)
    image(tmp_path / "distorted_images" / "i01_01_1.bmp", 11)
    image(tmp_path / "distorted_images" / "I25_24_5.BMP", 21)
    image(tmp_path / "distorted_images" / "i01_02_1.bmp", 12)  # has no score
    (tmp_path / "mos_with_names.txt").write_text("5.51429 I01_01_1.bmp\n0.2 i25_24_5.bmp\n")
    return tmp_path


def test_tid2013(tid):
    dataset = IQADataset.tid2013(tid)
    assert dataset.higher_is_better is True
    assert [pair.sample for pair in dataset.samples] == ["i01_01_1", "i25_24_5"]
    assert [pair.subset for pair in dataset.samples] == [
        "additive-gaussian-noise",
        "sparse-sampling",
    ]
    assert [pair.score for pair in dataset.samples] == [5.51429, 0.2]
    assert greys(dataset) == [(10, 11), (20, 21)]
    assert dataset.reference_of("i25_24_5") == "i25"
    assert "TID2013: 2 pairs; higher scores are better" in repr(dataset)
    assert (len(TID2013_TYPES), len(KADID10K_TYPES)) == (24, 25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5.5 I01_25_1.bmp", "its type from 1 to 24"),
        ("5.5 I01.bmp", "<reference>_<type>_<level>"),
        ("much I01_01_1.bmp", "score of I01_01_1.bmp: expected a finite number; got 'much'"),
        ("5.5", "expected two words a line; got '5.5'"),
        ("", "there are none"),
        ("5 I01_01_1.bmp\n6 i01_01_1.bmp", "i01_01_1 has two scores"),
    ],
)
def test_broken_scores(tid, text, message):
    (tid / "mos_with_names.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        IQADataset.tid2013(tid)


def test_missing_files_are_counted_and_the_first_is_named(tid):
    (tid / "reference_images" / "I01.BMP").unlink()
    (tid / "distorted_images" / "I25_24_5.BMP").unlink()
    with pytest.raises(FileNotFoundError, match=r"I01.bmp: no such file.*\(2 such\)"):
        IQADataset.tid2013(tid)
    (tid / "mos_with_names.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"mos_with_names.txt: no such file"):
        IQADataset.tid2013(tid)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        IQADataset.tid2013(tid / "nowhere")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """The whole layout, with one small image for all, and the numbers as MATLAB has them."""
    from scipy.io import savemat

    root = tmp_path_factory.mktemp("live")
    image(root / "refimgs" / "bikes.bmp", 10)
    image(root / "refimgs" / "Caps.bmp", 20)
    image(root / "one.bmp", 11)
    for kind, count in LIVE_TYPES.items():
        (root / kind).mkdir()
        for k in range(1, count + 1):
            (root / kind / f"img{k}.bmp").hardlink_to(root / "one.bmp")
    names = np.empty((1, 982), dtype=object)
    for i in range(982):
        names[0, i] = "bikes.bmp" if i % 2 else "caps.bmp"
    orgs = np.zeros((1, 982), dtype=np.uint8)
    orgs[0, [0, 227, 981]] = 1
    savemat(root / "refnames_all.mat", {"refnames_all": names})
    savemat(root / "dmos.mat", {"dmos": np.arange(982.0)[None], "orgs": orgs})
    return root


def test_live(live, tmp_path):
    from scipy.io import savemat

    dataset = IQADataset.live(live)
    assert dataset.higher_is_better is False
    assert len(dataset) == 979
    by_name = {pair.sample: pair for pair in dataset.samples}
    # Originals are the first of jp2k, the first of jpeg and the last of fastfading.
    assert not {"jp2k-img1", "jpeg-img1", "fastfading-img174"} & set(by_name)
    assert [dataset.samples[0].sample, dataset.samples[-1].sample] == [
        "jp2k-img2",
        "fastfading-img173",
    ]
    assert by_name["jpeg-img2"].score == 228
    assert by_name["wn-img1"].score == 460
    assert by_name["gblur-img1"].score == 634
    assert by_name["fastfading-img1"].score == 808
    assert by_name["wn-img1"].subset == "wn"
    assert dataset.reference_of("wn-img1") == "caps"
    assert dataset[0]["p0"].unique() == 10
    realigned = tmp_path / "live"
    realigned.mkdir()
    for path in live.iterdir():
        (realigned / path.name).symlink_to(path)
    savemat(realigned / "dmos_realigned.mat", {"dmos_new": -np.arange(982.0)[None]})
    assert IQADataset.live(realigned).samples[0].score == -1
    savemat(realigned / "dmos_realigned.mat", {"dmos_new": np.arange(3.0)[None]})
    with pytest.raises(ValueError, match="expected 982 scores; got 3"):
        IQADataset.live(realigned)


def test_kadid10k(tmp_path):
    image(tmp_path / "images" / "I01.png", 10)
    image(tmp_path / "images" / "I01_01_01.png", 11)
    image(tmp_path / "images" / "I01_25_05.png", 12)
    header = "dist_img,ref_img,dmos,var\n"
    rows = "I01_01_01.png,I01.png,4.57,0.496\nI01_25_05.png,I01.png,1.2,0.5\n"
    (tmp_path / "dmos.csv").write_text(header + rows)
    dataset = IQADataset.kadid10k(tmp_path)
    assert dataset.higher_is_better is True
    assert [pair.subset for pair in dataset.samples] == ["gaussian-blur", "contrast-change"]
    assert [dataset[i]["score"] for i in range(2)] == [4.57, 1.2]
    assert greys(dataset) == [(10, 11), (10, 12)]
    (tmp_path / "dmos.csv").write_text("dist_img,dmos\n")
    with pytest.raises(ValueError, match="missing: ref_img"):
        IQADataset.kadid10k(tmp_path)


def test_csv(tmp_path):
    image(tmp_path / "a" / "ref.png", 10)
    image(tmp_path / "a" / "x.jpg", 11)
    image(tmp_path / "a" / "x.png", 12)
    path = tmp_path / "mine.csv"
    path.write_text("reference,distorted,score\na/ref.png,a/x.jpg,1\na/ref.png,a/x.png,2\n")
    dataset = IQADataset.from_csv(path, higher_is_better=True)
    assert dataset.higher_is_better is True
    assert IQADataset.from_csv(path, higher_is_better=False).higher_is_better is False
    assert [pair.sample for pair in dataset.samples] == ["a/x.jpg", "a/x.png"]
    assert {pair.subset for pair in dataset.samples} == {"mine"}
    assert greys(dataset) == [(10, 11), (10, 12)]
    path.write_text("distorted, reference, score, subset\na/x.png, a/ref.png, 2, blur\n")
    assert IQADataset.from_csv(path, True).samples[0].subset == "blur"
    path.write_text("reference,distorted,score\na/ref.png,a/x.jpg,\n")
    with pytest.raises(ValueError, match="expected reference, distorted, score in line 2"):
        IQADataset.from_csv(path, True)


def test_images_of_a_pair_are_of_one_size(csiq):
    image(csiq / "dst_imgs" / "awgn" / "1600.AWGN.1.png", 11, (6, 5))
    (csiq / "csiq_label.txt").write_text("1600.AWGN.1 0.1")
    with pytest.raises(ValueError, match=r"expected the size of .*1600.png, 4x6; got 5x6"):
        IQADataset.csiq(csiq)[0]


def test_a_set_is_measured(csiq):
    lines = "".join(f"{name} 0.5\n" for name in CSIQ_SAMPLES)
    (csiq / "csiq_label.txt").write_text(lines)
    table = measure(
        lambda a, b: (a - b).abs().mean((1, 2, 3)), IQADataset.csiq(csiq), progress=False
    )
    assert table["distance"].to_numpy() * 127.5 == pytest.approx([1, 2, 1], rel=1e-4)


needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image has the photographs"
)


@needs_photographs
class TestGraded:
    def test_one_distortion_grows(self):
        dataset = GradedSeverities(32, crops=2, types=("jpeg", "color_shift"))
        photographs = load_photographs("val", 32)
        assert len(dataset) == 2 * 2 * 5 * len(photographs)
        items = [dataset[i] for i in range(len(dataset))]
        assert len({(item["subset"], item["sample"]) for item in items}) == len(items)
        assert {dataset.reference_of(item["sample"]) for item in items} == set(photographs)
        series = items[-5:]
        assert [item["score"] for item in series] == [-0.2, -0.4, -0.6, -0.8, -1.0]
        assert all(torch.equal(item["p0"], series[0]["p0"]) for item in series)
        shifts = [(item["p1"].float() - item["p0"].float()).mean((1, 2)) for item in series]
        # A tint keeps its direction, and grows, where nothing is cut off at black or white.
        assert torch.equal(shifts[0].sign(), shifts[-1].sign())
        sizes = [float(shift.abs().sum()) for shift in shifts]
        assert sizes == sorted(sizes)
        assert sizes[0] > 1

    def test_a_seed_is_a_set(self):
        one, same, other = (GradedSeverities(32, seed=seed, types=["shift"]) for seed in (0, 0, 1))
        assert torch.equal(one[3]["p1"], same[3]["p1"])
        assert not torch.equal(one[3]["p0"], other[3]["p0"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"types": ["fog"]}, f"types must be some of {', '.join(TRADITIONAL)}"),
            ({"types": []}, "types must be"),
            ({"crops": 0}, "crops must be at least 1; got 0"),
            ({"severities": (0.0, 1.0)}, "severities must be"),
            ({"severities": (0.5, 0.2)}, "severities must be"),
            ({"severities": (0.5, 1.2)}, "severities must be"),
            ({"image_size": 5000}, "no photograph"),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            GradedSeverities(**{"image_size": 32} | options)
