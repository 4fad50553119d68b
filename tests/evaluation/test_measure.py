import doctest
import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn

from robust_lpips import BackboneConfig, RobustLPIPS, inputs
from robust_lpips._files import atomic_path
from robust_lpips.evaluation import (
    FeatureMetric,
    max_shift_of,
    measure,
    read_distances,
    summarize,
    write_distances,
)
from robust_lpips.evaluation.measure import _together
from robust_lpips.evaluation.precision import computing_in

SIZE = 16


def triplets(count: int = 7, size: int = SIZE) -> list[dict]:
    generator = torch.Generator().manual_seed(0)

    def image() -> torch.Tensor:
        return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)

    return [
        {
            "ref": image(),
            "p0": image(),
            "p1": image(),
            "judge": i / 10,
            "subset": "traditional" if i % 2 else "cnn",
            "sample": f"{i:06d}",
        }
        for i in range(count)
    ]


def pairs(count: int = 5) -> list[dict]:
    return [
        {"same": item.pop("judge"), **{k: v for k, v in item.items() if k != "ref"}}
        for item in triplets(count)
    ]


def l2(img0: torch.Tensor, img1: torch.Tensor) -> torch.Tensor:
    return (img0 - img1).square().mean(dim=(1, 2, 3))


def run(metric, dataset, *args, **options) -> pd.DataFrame:
    return measure(metric, dataset, *args, progress=False, **options)


class Counting:
    """A feature metric that writes down what it computed features of."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        self.seen += list(images)
        return (images,)

    def distance(self, features0: tuple, features1: tuple) -> torch.Tensor:
        return l2(features0[0], features1[0])


def to_float(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 127.5 - 1


def naive(dataset: list[dict], largest: int) -> pd.DataFrame:
    """The protocol, one image at a time."""
    rows = []
    for view in ["full", *(f"shift-{n}" for n in range(largest + 1))]:
        for item in dataset:
            ref, p0, p1 = (to_float(item[name])[None] for name in ("ref", "p0", "p1"))
            if view != "full":
                n, columns = int(view[-1]), ref.shape[-1] - largest
                ref = ref[..., :columns]
                p0, p1 = (image[..., n : n + columns] for image in (p0, p1))
            d0, d1 = (l2(ref, image).double().item() for image in (p0, p1))
            rows.append((item["subset"], item["sample"], view, d0, d1, item["judge"]))
    return pd.DataFrame(rows, columns=["subset", "sample", "view", "d0", "d1", "judge"])


@pytest.mark.parametrize("largest", [1, 3])
def test_against_a_loop(largest):
    dataset = triplets()
    table = run(l2, dataset, largest, batch_size=1)
    assert_frame_equal(table, naive(dataset, largest), check_exact=True)
    assert max_shift_of(table) == largest


def test_batches_and_workers_change_nothing():
    dataset = triplets()
    expected = naive(dataset, 3)
    for options in ({"batch_size": 3}, {"batch_size": 50}, {"batch_size": 2, "num_workers": 1}):
        assert_frame_equal(run(l2, dataset, **options), expected, rtol=1e-6)


def test_full_only():
    table = run(l2, triplets(), 0)
    assert list(table["view"].unique()) == ["full"]
    assert list(summarize(table, n_boot=0).columns) == [
        "subset",
        "n",
        "two_afc",
        "two_afc_low",
        "two_afc_high",
    ]


def test_direction_and_step_reach_the_views():
    dataset = triplets(1)
    table = run(l2, dataset, 1, direction=(0, -1), step=0.5).set_index("view")
    assert list(table.index) == ["full", "shift-0", "shift-0.5", "shift-1"]
    ref, p0 = (to_float(dataset[0][name])[None] for name in ("ref", "p0"))
    moved = l2(ref[:, :, 1:], p0[:, :, :-1]).item()
    assert table.loc["shift-1", "d0"] == moved
    # Bicubic resampling of noise takes away contrast, so that it comes closer to anything.
    assert table.loc["shift-0.5", "d0"] < table.loc["shift-0", "d0"]


def test_whole_pixels_do_not_depend_on_the_step():
    dataset = triplets()
    fine = run(l2, dataset, 2, step=0.5)
    fine = fine[~fine["view"].isin(["shift-0.5", "shift-1.5"])].reset_index(drop=True)
    assert_frame_equal(fine, run(l2, dataset, 2), check_exact=True)


def test_features_of_a_reference_are_computed_twice_and_of_a_distorted_patch_once_a_view():
    dataset = triplets(4)
    metric = Counting()
    assert isinstance(metric, FeatureMetric)
    table = run(metric, dataset, 3, batch_size=3)
    assert_frame_equal(table, run(l2, dataset, 3, batch_size=3), check_exact=True)
    references = [to_float(item["ref"]) for item in dataset]
    references += [reference[..., :-3] for reference in references]

    def times(image: torch.Tensor) -> int:
        return sum(torch.equal(image, other) for other in metric.seen)

    assert [times(reference) for reference in references] == [1] * 8
    # Whole and at four shifts, two distorted patches of each of four triplets.
    assert len(metric.seen) == 8 + 4 * 2 * 5


def test_pairs():
    dataset = pairs()
    expected = [l2(to_float(i["p0"])[None], to_float(i["p1"])[None]).item() for i in dataset]
    for metric in (l2, Counting()):
        table = run(metric, dataset, batch_size=2)
        assert list(table.columns) == ["subset", "sample", "distance", "same"]
        np.testing.assert_allclose(table["distance"], expected, rtol=1e-6)
        assert list(table["same"]) == [item["same"] for item in dataset]
        assert list(table["sample"]) == [item["sample"] for item in dataset]


def scored(sizes: tuple[int, ...] = (16, 16, 20, 16)) -> list[dict]:
    """Pairs with a score, of which some differ in size."""
    items = [triplets(1, size)[0] for size in sizes]
    names = ("ref", "p0", "judge", "sample")
    return [
        {k: v for k, v in item.items() if k not in names}
        | {"p0": item["ref"], "score": -7.5 * i, "sample": f"{i}"}
        for i, item in enumerate(items)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_scored_pairs_may_differ_in_size(batch_size):
    sizes = []

    def metric(img0, img1):
        sizes.append(tuple(img0.shape))
        return l2(img0, img1)

    dataset = scored()
    table = run(metric, dataset, 3, batch_size=batch_size)
    assert list(table) == ["subset", "sample", "distance", "score"]
    assert list(table["sample"]) == ["0", "1", "2", "3"]
    assert list(table["score"]) == [0, -7.5, -15, -22.5]
    for item, distance in zip(dataset, table["distance"], strict=True):
        expected = l2(*(to_float(item[name])[None] for name in ("p0", "p1"))).item()
        assert distance == pytest.approx(expected, rel=1e-6)
    if batch_size == 50:
        assert sizes == [(2, 3, 16, 16), (1, 3, 20, 20), (1, 3, 16, 16)]


def test_the_images_of_a_scored_pair_are_of_one_size():
    dataset = scored()
    dataset[1]["p1"] = dataset[2]["p1"]
    with pytest.raises(ValueError, match=r"one size; got \(3, 20, 20\) for 'p1' of cnn/1"):
        run(l2, dataset)


def test_a_broken_distance_of_a_scored_pair_is_named():
    with pytest.raises(ValueError, match="metric returned nan at view 'full' of cnn/2"):
        run(lambda a, b: l2(a, b) + (float("nan") if a.shape[-1] == 20 else 0), scored())


def test_scores_are_kept_to_the_bit_and_have_to_be_finite(tmp_path):
    table = run(l2, scored())
    write_distances(table, tmp_path / "scored.csv.gz")
    assert_frame_equal(read_distances(tmp_path / "scored.csv.gz"), table, check_exact=True)
    table.loc[2, "score"] = float("inf")
    with pytest.raises(ValueError, match="score must be finite; got inf at cnn/2"):
        write_distances(table, tmp_path / "scored.csv.gz")


def test_inputs_fill_the_range_and_no_graph_is_kept():
    black, white = (torch.full((3, 8, 8), v, dtype=torch.uint8) for v in (0, 255))
    item = {"ref": black, "p0": black, "p1": white, "judge": 1, "subset": "s", "sample": "0"}
    seen = []

    def metric(img0, img1):
        seen.append((img0.dtype, img0.requires_grad, torch.is_inference_mode_enabled()))
        return (img1 - img0).amax(dim=(1, 2, 3))

    table = run(metric, [item], 0)
    assert list(table["d0"]) == [0]
    assert list(table["d1"]) == [2]
    assert seen == [(torch.float32, False, True)] * 2


class Module(nn.Module):
    """Dropout in it, so that training mode would show."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, img0, img1):
        return self.scale * self.dropout((img0 - img1).square()).mean(dim=(1, 2, 3))


def test_a_module_is_measured_in_evaluation_mode_and_left_as_it_was():
    dataset, metric = triplets(), Module()
    assert_frame_equal(run(metric, dataset), run(l2, dataset), check_exact=True)
    assert [m.training for m in (metric, metric.dropout, metric.frozen)] == [True, True, False]
    with pytest.raises(ValueError, match="width"):
        run(metric, dataset, SIZE)
    assert metric.dropout.training


def test_a_module_moves_only_when_asked():
    metric, moves = Module(), []
    metric.to = lambda device: moves.append(device)
    run(metric, triplets())
    assert moves == []
    run(metric, triplets(), device="cpu")
    assert moves == [torch.device("cpu")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees():
    dataset = triplets()
    expected = run(l2, dataset)
    metric = Module()
    assert_frame_equal(run(metric, dataset, device="cuda"), expected, rtol=1e-5)
    assert metric.scale.is_cuda
    assert_frame_equal(run(metric, dataset), expected, rtol=1e-5)


def test_progress_can_be_switched_off(capsys):
    run(l2, triplets())
    assert capsys.readouterr().err == ""
    measure(l2, triplets())
    assert "measure" in capsys.readouterr().err


def broken(**changes) -> list[dict]:
    dataset = triplets()
    for key, value in changes.items():
        if value is None:
            del dataset[2][key]
        else:
            dataset[2][key] = value
    return dataset


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ([], ValueError, "empty"),
        ([torch.zeros(3)], TypeError, "must be dicts; got Tensor"),
        (broken(p1=None), ValueError, "missing: p1"),
        (broken(judge=None), ValueError, "missing: judge"),
        (broken(subset=None, sample=None), ValueError, "missing: sample, subset"),
        (broken(ref=torch.zeros(3, SIZE, SIZE)), ValueError, "'ref' of cnn/000002 .*float32"),
        (broken(ref=torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8)), ValueError, "cnn/000002"),
        (broken(p0=np.zeros((3, SIZE, SIZE))), ValueError, "cnn/000002 .*ndarray"),
        (broken(p0=torch.zeros(3, 8, 8, dtype=torch.uint8)), ValueError, "one size.*cnn/000002"),
        (triplets() + pairs(), ValueError, "items of one kind"),
        (pairs() + scored(), ValueError, "items of one kind"),
        (triplets(4) + pairs(4), ValueError, "items of one kind"),
    ],
)
@pytest.mark.parametrize("batch_size", [4, 50])
def test_bad_datasets(dataset, error, message, batch_size):
    with pytest.raises(error, match=message):
        run(l2, dataset, batch_size=batch_size)


def nan_at_third(img0, img1):
    distance = l2(img0, img1)
    distance[2] = float("nan")
    return distance


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda a, b: l2(a, b)[:, None, None, None], r"\(7,\).*got \(7, 1, 1, 1\)"),
        (lambda a, b: l2(a, b).mean(), r"got \(\)"),
        (lambda a, b: l2(a, b).tolist(), "got list"),
        (nan_at_third, r"nan at view 'full' of cnn/000002$"),
        (lambda a, b: l2(a, b) * (1 if a.shape[-1] == SIZE else float("inf")), "'shift-0'"),
    ],
)
def test_bad_metrics(metric, message):
    with pytest.raises(ValueError, match=message):
        run(metric, triplets())


def test_bad_arguments():
    with pytest.raises(TypeError, match="callable"):
        run(3, triplets())
    for wrong in (-1, SIZE, SIZE + 1):
        with pytest.raises(ValueError, match="max_shift"):
            run(l2, triplets(), wrong)


def test_example_in_the_docstring_holds():
    import importlib

    assert doctest.testmod(importlib.import_module("robust_lpips.evaluation.measure")).failed == 0


# --- The table's files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.csv", "new/folder/table.csv.gz"])
@pytest.mark.parametrize("dataset", [triplets(), pairs()], ids=["triplets", "pairs"])
def test_files_give_back_every_bit(tmp_path, name, dataset):
    dataset[0]["sample"] = "NA"
    dataset[1]["sample"] = 'a, "b"'
    table = run(l2, dataset)
    path = tmp_path / name
    write_distances(table, path)
    assert_frame_equal(read_distances(path), table, check_exact=True)
    assert [file.name for file in path.parent.iterdir() if file.is_file()] == [path.name]


def test_awkward_numbers_survive(tmp_path):
    rng = np.random.default_rng(0)
    wide = np.exp(rng.uniform(-80, 80, 2000))
    for values in (wide, wide.astype(np.float32), np.nextafter(wide, 0)):
        table = pd.DataFrame({"subset": "s", "sample": [f"{i:06d}" for i in range(2000)]})
        table = table.assign(view="full", d0=values, d1=values[::-1], judge=1 / 3)
        write_distances(table, tmp_path / "t.csv")
        back = read_distances(tmp_path / "t.csv")
        assert np.array_equal(back["d0"].to_numpy(), values.astype(np.float64))
        assert np.array_equal(back["d0"].to_numpy().astype(values.dtype), values)
        assert (back["judge"] == 1 / 3).all()
        assert list(back["sample"]) == list(table["sample"])


def test_same_table_same_bytes(tmp_path):
    table = run(l2, triplets())
    for name in ("a.csv.gz", "b.csv.gz"):
        write_distances(table, tmp_path / name)
    content = (tmp_path / "a.csv.gz").read_bytes()
    assert content == (tmp_path / "b.csv.gz").read_bytes()
    assert content[4:8] == bytes(4)  # the time, in gzip's header
    write_distances(table, tmp_path / "a.csv")
    assert gzip.decompress(content) == (tmp_path / "a.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subset,sample,view,d0,d1\ns,0,full,1,2\n", "columns"),
        ("subset,sample,view,d0,d1,judge\n", "no rows"),
        ("subset,sample,view,d0,d1,judge\ns,0,full,1,,1\n", "t.csv"),
        ("subset,sample,view,d0,d1,judge\ns,0,full,1,nan,1\n", "d1 must be finite.*s/0/full"),
        ("subset,sample,view,d0,d1,judge\ns,0,full,1,2,1.2\n", "judge must be in"),
        ("subset,sample,distance,same\ns,0,1,1\ns,0,1,1\n", "repeats rows: s/0"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_distances(path)


def test_bad_paths_and_tables(tmp_path):
    table = run(l2, triplets())
    with pytest.raises(ValueError, match="must end in"):
        write_distances(table, tmp_path / "t.parquet")
    with pytest.raises(FileNotFoundError):
        read_distances(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="columns"):
        write_distances(table.drop(columns="judge"), tmp_path / "t.csv")
    with pytest.raises(ValueError, match="sample must be text"):
        write_distances(table.assign(sample=1), tmp_path / "t.csv")
    assert list(tmp_path.iterdir()) == []


def fail_halfway(path) -> None:
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".csv.gz")
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        fail_halfway(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "before"


class TestPrecision:
    def measured(self, **options):
        metric = RobustLPIPS(BackboneConfig(), weights=None)
        return run(metric, triplets(4, 40), 1, **options)

    def test_bfloat16_is_computed_in_bfloat16(self):
        torch.manual_seed(0)
        exact = self.measured()
        torch.manual_seed(0)
        rounded = self.measured(precision="bfloat16")
        error = (rounded["d0"] / exact["d0"] - 1).abs()
        # 8 bits of mantissa: there is an error, and it is no larger than that of some roundings.
        assert 1e-5 < error.max() < 0.05

    @pytest.mark.parametrize(
        ("precision", "message"),
        [("half", "precision must be one of float32, tf32, .*got 'half'"), ("tf32", "NVIDIA")],
    )
    def test_unknown_or_elsewhere(self, precision, message):
        with pytest.raises(ValueError, match=message):
            self.measured(precision=precision)

    def test_float32_is_strict_on_gpus_and_settings_are_given_back(self):
        """The switches exist without a GPU, too."""
        backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
        before = [backend.allow_tf32 for backend in backends]
        for precision, allowed in (("float32", False), ("tf32", True)):
            with computing_in(precision, torch.device("cuda")):
                assert [backend.allow_tf32 for backend in backends] == [allowed] * 2
            assert [backend.allow_tf32 for backend in backends] == before

    @pytest.mark.skipif(
        not hasattr(torch.backends.cudnn, "conv"), reason="torch has no such switches yet"
    )
    def test_the_newer_switches_are_respected(self):
        conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
        before = conv.fp32_precision
        conv.fp32_precision = "ieee"  # from here on the older ones refuse to tell
        try:
            with computing_in("tf32", torch.device("cuda")):
                assert (conv.fp32_precision, matmul.fp32_precision) == ("tf32", "tf32")
            assert conv.fp32_precision == "ieee"
        finally:
            conv.fp32_precision = before

    def test_float32_is_strict_inside_of_autocast(self):
        a = torch.rand(4, 4)
        with torch.autocast("cpu", torch.bfloat16), computing_in("float32", torch.device("cpu")):
            assert (a @ a).dtype == torch.float32


class TestCompile:
    @pytest.fixture(autouse=True)
    def tracer_alone(self, monkeypatch):
        """Without the minute that the code generator takes."""
        compile = torch.compile
        torch.compiler.reset()

        def traced(function, *, dynamic, mode):
            return compile(function, dynamic=dynamic, backend="aot_eager", fullgraph=True)

        monkeypatch.setattr(torch, "compile", traced)

    @pytest.mark.slow  # it traces every size of batch; the next compares one of them, too
    def test_numbers_are_the_same(self):
        torch.manual_seed(0)
        metric = RobustLPIPS(BackboneConfig(), weights=None)
        dataset = triplets(5, 40)
        compiled = run(metric, dataset, batch_size=2, compile=True)
        assert_frame_equal(compiled, run(metric, dataset), rtol=1e-5)

    def test_a_metric_may_provide_another_form_to_compile(self):
        class Doubled:
            def __call__(self, a, b):
                return (a - b).abs().mean((1, 2, 3))

            def compilable(self):
                return lambda a, b: 2 * self(a, b)

        dataset = triplets(2, 16)
        plain, compiled = (run(Doubled(), dataset, compile=flag) for flag in (False, True))
        np.testing.assert_allclose(compiled[["d0", "d1"]], 2 * plain[["d0", "d1"]], rtol=1e-6)

    def test_the_metric_stays_free_to_change(self):
        torch.manual_seed(0)
        metric = RobustLPIPS(BackboneConfig(), weights=None)
        dataset = triplets(2, 40)
        first = run(metric, dataset, compile=True)
        with torch.no_grad():
            metric.backbone.conv1.weight[::2].mul_(0.1)
        torch.compiler.reset()
        second = run(metric, dataset, compile=True)
        assert not first.equals(second)
        assert_frame_equal(second, run(metric, dataset), rtol=1e-5)


def test_large_images_are_computed_in_parts(monkeypatch):
    """On CPUs, whatever the batch; that changes no number."""
    dataset, seen = triplets(7), []

    def metric(a, b):
        seen.append(len(a))
        return l2(a, b)

    monkeypatch.setattr(inputs, "_CPU_PIXELS", 3 * SIZE**2)
    table = run(metric, dataset, 1)
    assert set(seen) == {3, 1}
    assert_frame_equal(table, naive(dataset, 1), rtol=1e-6)


def test_features_of_several_views_at_once():
    """As on GPUs."""
    images = [to_float(item["ref"])[None].repeat(2, 1, 1, 1) for item in triplets(3)]
    images = [image + torch.rand_like(image) for image in images]
    calls = []

    def features(batch):
        calls.append(len(batch))
        return {"a": (batch, 2 * batch), "b": [batch.mean(dim=(1, 2, 3))]}

    found = list(_together(features, images))
    assert calls == [6]
    for image, own in zip(images, found, strict=True):
        expected = features(image)
        assert torch.equal(own["a"][1], expected["a"][1])
        assert torch.equal(own["b"][0], expected["b"][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_in_all_precisions():
    torch.manual_seed(0)
    config = BackboneConfig(
        anti_alias="blurpool", conv1_stride=1, blur_placement="blur_before_activation"
    )
    metric, dataset = RobustLPIPS(config, weights=None), triplets(4, 40)
    expected = run(metric, dataset)
    for options, tolerance in (
        ({}, 1e-4),
        ({"precision": "tf32"}, 0.01),
        ({"precision": "bfloat16"}, 0.05),
        ({"precision": "float16"}, 0.05),
        ({"compile": True}, 1e-4),
    ):
        assert_frame_equal(run(metric, dataset, device="cuda", **options), expected, rtol=tolerance)
