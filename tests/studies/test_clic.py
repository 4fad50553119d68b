from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal
from PIL import Image

from robust_lpips import cli
from robust_lpips.evaluation import compare_pairs, read_distances
from robust_lpips.published import published, published_scores
from robust_lpips.studies.base import Plan, Results, records, runner
from robust_lpips.studies.clic import STUDY, CLICSettings

# Height and width: of several sizes, as CLIC's images may be.
SIZES = [(20, 24), (20, 24), (18, 30), (24, 20), (20, 20), (16, 22), (20, 24), (28, 18)]
CHOICES = [0, 1, 1, 0, 1, 0, 0, 1]


def triplet(i: int) -> list[np.ndarray]:
    """A smooth original and two noisy copies of it."""
    rng = np.random.default_rng(i)
    height, width = SIZES[i]
    original = np.kron(rng.integers(30, 220, (height // 2, width // 2, 3)), np.ones((2, 2, 1)))
    noisy = (original + rng.normal(0, noise, original.shape) for noise in (28, 30))
    return [np.clip(image, 0, 255).astype(np.uint8) for image in (original, *noisy)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clic"), CHOICES)


def write(root: Path, choices: list[int]) -> Path:
    lines = []
    for i, choice in enumerate(choices):
        names = [f"{i}{part}.png" for part in "oab"]
        for name, image in zip(names, triplet(i), strict=True):
            Image.fromarray(image).save(root / name)
        lines.append(",".join([*names, str(choice)]))
    (root / "oracle.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def by_hand(shift: int | None, max_shift: int) -> np.ndarray:
    """Of each triplet whether its second copy is nearer, by mean squared difference."""
    nearer = []
    for i in range(len(SIZES)):
        original, *copies = (image.astype(float) for image in triplet(i))
        if shift is not None:
            width = original.shape[1] - max_shift
            original = original[:, :width]
            copies = [copy[:, shift : shift + width] for copy in copies]
        a, b = (((original - copy) ** 2).mean() for copy in copies)
        nearer.append(b < a)
    return np.array(nearer)


def run(output: Path, metrics: Sequence[str] = ("l2",), **settings) -> str:
    return runner.run(STUDY, Plan(CLICSettings(**settings), tuple(metrics)), output)


def figure(output: Path, metrics: Sequence[str], **settings) -> Figure:
    """The figure of a run, with all its parts."""
    run(output, metrics, **settings)
    plan = Plan(CLICSettings(**settings), tuple(metrics))
    results = Results(plan, plan.settings.source(), output, STUDY.planned(plan))
    return STUDY.figures(results, STUDY.tables(results))["clic"]


def published_markers(figure: Figure) -> list[float]:
    """Places of the hollow diamonds, from below."""
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() == "D"]
    return [x for line in lines for x in line.get_xdata() if np.isfinite(x)]


def test_scores_by_hand(root, tmp_path):
    run(tmp_path, data_root=root, max_shift=3)
    (row,) = pd.read_csv(tmp_path / "clic.csv").to_dict("records")
    accuracy = np.mean(by_hand(None, 3) == np.array(CHOICES, dtype=bool))
    assert row["accuracy"] == pytest.approx(100 * accuracy)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    flips = [int((by_hand(n, 3) != by_hand(0, 3)).sum()) for n in (1, 2, 3)]
    assert [row[f"flips_{n}"] for n in (1, 2, 3)] == flips
    assert 0 < sum(flips) < 24
    for n, count in zip((1, 2, 3), flips, strict=True):
        assert row[f"rrf_{n}"] == pytest.approx(100 * count / 8)
        assert row[f"rrf_{n}_low"] <= row[f"rrf_{n}"] <= row[f"rrf_{n}_high"]
    assert row["n"] == 8


def test_page(root, tmp_path):
    page = run(tmp_path, ["l2", "ssim"], data_root=root, max_shift=2)
    table = pd.read_csv(tmp_path / "clic.csv").set_index("metric")
    assert f"| {table.loc['l2', 'flips_1']} ({table.loc['l2', 'rrf_1']:.1f} [" in page
    assert CLICSettings(data_root=root).source().judged_by in page
    for row in published("comparison_clic").to_dict("records"):
        assert f"{row['accuracy']:.2f}" in page
        assert f" {row['flips_3']} |" in page


def test_differences_are_those_of_the_distances(root, tmp_path):
    run(tmp_path, ["ssim", "l2"], data_root=root, max_shift=1)
    paths = {m: tmp_path / "distances" / m / "distances.csv.gz" for m in ("ssim", "l2")}
    tables = {metric: read_distances(path) for metric, path in paths.items()}
    expected = compare_pairs(tables, [("ssim", "l2")])
    written = pd.read_csv(tmp_path / "clic_differences.csv")
    assert_frame_equal(written, expected, check_dtype=False, rtol=1e-12)
    row = expected.iloc[1]
    page = (tmp_path / "clic.md").read_text(encoding="utf-8")
    assert f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]" in page
    assert f"{row['p_value']:.2g}" in page


def test_one_metric_has_nothing_to_be_compared_with(root, tmp_path):
    assert "## Against" not in run(tmp_path / "one", data_root=root, max_shift=1)
    run(tmp_path / "two", ["l2", "ssim"], data_root=root, max_shift=1)
    one, two = (pd.read_csv(tmp_path / f / "clic_differences.csv") for f in ("one", "two"))
    assert one.empty
    assert list(one) == list(two)


@pytest.mark.parametrize("inverted", [False, True])
def test_an_inverted_file_is_noticed(inverted, tmp_path):
    choices = by_hand(None, 1) != inverted
    root = write(tmp_path, [int(choice) for choice in choices])
    page = run(tmp_path / "out", data_root=root, max_shift=1)
    assert ("column T inverted" in page) == inverted
    assert pd.read_csv(tmp_path / "out" / "clic.csv")["accuracy"].item() == 100 * (not inverted)


def test_records(root, tmp_path):
    run(tmp_path, ["l2", "ssim"], data_root=root, max_shift=1, seed=5)
    table = pd.read_csv(tmp_path / "clic.csv").set_index("metric")
    found = records.read(tmp_path)
    assert [record["metric"] for record in found] == ["l2", "ssim"]
    for record in found:
        assert (record["n"], record["dataset"]) == (8, "CLIC")
        assert record["settings"]["max_shift"] == 1
        assert record["settings"]["seed"] == 5
        assert list(record["scores"]) == ["accuracy", "rrf_1"]
        assert record["scores"]["rrf_1"][0] == table.loc[record["metric"], "rrf_1"]


class TestPublished:
    def test_names_of_the_page_are_of_our_metrics(self):
        """PieAPP without a word on its sampling is read as sparse; BAPPS has both ways."""
        metrics = ["l2", "pieapp-sparse", "pieapp-dense", "alexnet", "alexnet-untrained"]
        scores = published_scores("comparison_clic", metrics, "accuracy")
        assert scores == pytest.approx([58.16, 75.44, np.nan, 73.68, np.nan], nan_ok=True)
        both = published_scores("comparison_bapps", ["pieapp-sparse", "pieapp-dense"], "two_afc")
        assert both == [64.20, 64.15]

    def test_hollow_markers_are_next_to_clic_alone(self, root, tmp_path):
        clic = figure(tmp_path / "clic", ["l2", "ssim"], data_root=root)
        assert published_markers(clic) == [58.16, 60.0]
        sample = figure(tmp_path / "sample", ["l2"], n=6)
        assert published_markers(sample) == []


def test_the_sample_set_says_that_nobody_judged_it(tmp_path):
    settings = CLICSettings(n=6)
    page = run(tmp_path, n=6)
    note = settings.source().judged_by
    title = " ".join(figure(tmp_path, ["l2"], n=6).texts[1].get_text().split())
    for text in (page, title, records.read(tmp_path)[0]["judged_by"]):
        assert note in text
    assert pd.read_csv(tmp_path / "clic.csv")["judged_by"].tolist() == [note]


def test_fewer_triplets(root, tmp_path):
    run(tmp_path, data_root=root, n=3, max_shift=1)
    distances = read_distances(tmp_path / "distances" / "l2" / "distances.csv.gz")
    assert list(distances["sample"].unique()) == ["0o-000000", "4o-000004", "7o-000007"]


def test_reason_of_an_unavailable_metric_does_not_repeat_its_name(root, tmp_path):
    page = run(tmp_path, ["gti-cnn", "l2"], data_root=root, max_shift=1)
    (line,) = (line for line in page.splitlines() if line.startswith("- gti-cnn: "))
    assert line.count("gti-cnn") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_shift": 0}, "max_shift must be at least 1; got 0"),
        ({"max_shift": 64}, "max_shift must be .* below image_size, 64; got 64"),
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"n": 10**6 + 1}, "n must be at most 1000000; got 1000001"),
    ],
)
def test_settings_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        CLICSettings(**given)


def test_more_triplets_than_clic_has_are_refused_before_anything_is_written(root, tmp_path):
    with pytest.raises(ValueError, match="n must be at most 8"):
        run(tmp_path / "out", data_root=root, n=9)
    assert not (tmp_path / "out").exists()


def test_large_images_take_large_shifts(root):
    assert CLICSettings(data_root=root, max_shift=100).max_shift == 100


def test_command_line(root, tmp_path, capsys):
    arguments = ["--metrics", "l2", "--data-root", str(root), "--max-shift", "1", "--n", "4"]
    cli.main(STUDY, "", [*arguments, "--device", "cpu", "--output", str(tmp_path)])
    assert (tmp_path / "clic.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "clic.csv")["n"].tolist() == [4]


@pytest.mark.parametrize(
    "arguments", [["--n", "0"], ["--n", "10000000"], ["--max-shift", "64"], ["--data-root", "/no"]]
)
def test_command_line_names_what_is_wrong(arguments, capsys):
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", arguments)
    assert arguments[0].strip("-") in capsys.readouterr().err.replace("_", "-")
