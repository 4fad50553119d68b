import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.optimize import minimize

from robust_lpips import plotting
from robust_lpips._labels import _spread

NAN = float("nan")
NO_BARS = np.empty((0, 4))


def curves(count: int = 2, slope: float = 1.0) -> pd.DataFrame:
    shift = np.arange(4)
    tables = [
        pd.DataFrame({"metric": f"a-long-name-of-metric-{i}", "shift": shift, "rrf": slope * shift})
        for i in range(count)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(rrf_low=table["rrf"] * 0.8, rrf_high=table["rrf"] * 1.2)


def scores() -> pd.DataFrame:
    rows = [("l2", 62.0, 60.0, 64.0, NAN), ("lpips", 70.0, 69.0, 71.0, 69.8)]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "published"])


def draw(size: tuple[float, float] = (9.0, 4.0)) -> Figure:
    """A figure with most of the parts in it."""
    points = np.array([(60.0, 0.2), (61.0, 0.25), (61.5, 0.3)])
    bars = np.array([(59.0, 0.2, 62.0, 0.2), (NAN, 0.2, NAN, 0.3)])
    with plotting.figure(size, "Heading\nsample set val, 600 triplets") as figure:
        left, right = plotting.panels(figure, 2, left=1.0, right=2.0, top=0.8, height=2.4, gap=1.0)
        plotting.draw_scores(left, scores(), "2AFC (%)")
        plotting.place_labels(left, points, "abc", ["red"] * 3, markers=points, bars=bars)
        plotting.draw_curves(right, curves(), "rrf")
        plotting.draw_score_key(figure, scores())
    return figure


def panel(figure: Figure):
    return plotting.panels(figure, 1, left=0.5, right=1.8, top=0.8, height=2.5, gap=0)[0]


def boxes(texts) -> np.ndarray:
    """Left, bottom, right and top in inches of texts, without the lines that lead from them."""
    extents = []
    for text in texts:
        figure = text.get_figure()
        if not extents:
            # Moves annotations to their places.
            figure.draw_without_rendering()
        box = Text.get_window_extent(text, figure.canvas.get_renderer())
        extents.append(box.extents / figure.dpi)
    return np.array(extents)


def overlap(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((first[:2] < second[2:]).all() and (second[:2] < first[2:]).all())


class TestFigure:
    def test_has_the_size_and_the_title_it_is_given(self):
        figure = draw((9.0, 4.0))
        assert tuple(figure.get_size_inches()) == (9.0, 4.0)
        assert [text.get_text() for text in figure.texts] == [
            "Heading",
            "sample set val, 600 triplets",
        ]
        heading, rest = boxes(figure.texts)
        assert heading[3] < 4.0
        assert rest[3] < heading[1]
        assert 4.0 - rest[1] < plotting.title_height("Heading\nsample set val, 600 triplets")

    def test_panels_keep_their_margins(self):
        with plotting.figure((10.0, 5.0), "") as figure:
            axes = plotting.panels(figure, 3, left=1, right=0.5, top=0.75, height=3, gap=0.25)
        edges = np.array([each.get_position().extents * [10, 5, 10, 5] for each in axes])
        assert edges[[0, -1], [0, 2]] == pytest.approx([1.0, 9.5])
        assert edges[1:, 0] - edges[:-1, 2] == pytest.approx(0.25)
        assert edges[:, 2] - edges[:, 0] == pytest.approx(8 / 3)
        assert edges[:, [1, 3]] == pytest.approx(np.tile([1.25, 4.25], (3, 1)))


class TestSave:
    def test_writes_the_same_bytes_for_the_same_data(self, tmp_path):
        plotting.save(draw(), tmp_path / "new" / "a")
        plotting.save(draw(), tmp_path / "new" / "b.png")
        files = sorted(path.name for path in (tmp_path / "new").iterdir())
        assert files == ["a.pdf", "a.png", "b.pdf", "b.png"]
        for suffix in (".png", ".pdf"):
            a, b = (tmp_path / "new" / f"{name}{suffix}" for name in "ab")
            assert a.read_bytes() == b.read_bytes()
            assert b"atplotlib" not in a.read_bytes()
        with Image.open(tmp_path / "new" / "a.png") as image:
            assert image.format == "PNG"
            assert image.size == (1440, 640)
        assert (tmp_path / "new" / "a.pdf").read_bytes().startswith(b"%PDF")

    def test_settings_of_the_user_change_nothing_and_stay(self, tmp_path):
        plotting.save(draw(), tmp_path / "a")
        settings = {
            "font.size": 30,
            "axes.facecolor": "red",
            "lines.marker": "x",
            "pdf.fonttype": 3,
            "savefig.dpi": 40,
        }
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            plotting.save(draw(), tmp_path / "b")
            assert dict(matplotlib.rcParams) == before
        for suffix in (".png", ".pdf"):
            a, b = (tmp_path / f"{name}{suffix}" for name in "ab")
            assert a.read_bytes() == b.read_bytes()

    @pytest.mark.parametrize("failing", [".png", ".pdf"])
    def test_an_error_leaves_old_files_and_no_new_ones(self, failing, tmp_path, monkeypatch):
        old = {tmp_path / "a.png": b"old", tmp_path / "a.pdf": b"old"}
        for path, content in old.items():
            path.write_bytes(content)
        figure, savefig = draw(), Figure.savefig

        def fail(self, path, **options):
            savefig(self, path, **options)
            if Path(path).suffix == failing:
                raise OSError("disk full")

        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match="disk full"):
            plotting.save(figure, tmp_path / "a")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old

    def test_refuses_another_suffix(self, tmp_path):
        with pytest.raises(ValueError, match=r"path.*\.svg"):
            plotting.save(draw(), tmp_path / "a.svg")
        assert list(tmp_path.iterdir()) == []


class TestLineEnds:
    @pytest.mark.parametrize("count", [1, 2, 12])
    @pytest.mark.parametrize("slope", [0.0, 1.0])
    def test_names_keep_a_gap_and_stay_in_the_figure(self, count, slope):
        with plotting.figure((6.0, 3.8), "Heading") as figure:
            axes = panel(figure)
            plotting.draw_curves(axes, curves(count, slope), "rrf")
            places = boxes(axes.texts)
        assert len(places) == count
        for first, second in itertools.combinations(places, 2):
            assert not overlap(first, second)
        assert (places[:, 0] > axes.get_position().x1 * 6.0).all()
        assert (places > 0).all()
        assert (places[:, 2:] < [6.0, 3.8]).all()

    def test_names_stand_next_to_their_lines(self):
        ends, names = [(3.0, 1.0), (3.0, 3.0), (3.0, 2.0)], ["low", "high", "middle"]
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            axes.set(xlim=(0, 3), ylim=(0, 4))
            plotting.name_line_ends(axes, ends, names, plotting.LINES[:3])
            places = boxes(axes.texts)
            heights = axes.transData.transform(ends)[:, 1] / figure.dpi
        assert (places[:, 1] + places[:, 3]) / 2 == pytest.approx(heights, abs=0.03)
        assert [text.get_text() for text in axes.texts] == names

    def test_names_stay_in_place_in_a_pdf(self):
        # A PDF is drawn at 72 pixels per inch.
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            plotting.draw_curves(axes, curves(), "rrf")
            places = boxes(axes.texts)
            figure.set_dpi(72)
            # Letters have other widths there, but the left edge and the middle stay.
            in_pdf = boxes(axes.texts)
        assert in_pdf[:, 0] == pytest.approx(places[:, 0], abs=0.02)
        assert in_pdf[:, [1, 3]].mean(1) == pytest.approx(places[:, [1, 3]].mean(1), abs=0.02)

    def test_a_line_without_values_has_no_name_and_leaves_colours_as_they_are(self):
        table = curves(3)
        table.loc[table["metric"].str.endswith("1"), "rrf"] = NAN
        epochs, values = pd.Series([0.0, 1.0]), pd.Series([1.0, NAN])
        with plotting.figure((6.0, 3.8), "") as figure:
            left, right = plotting.panels(
                figure, 2, left=0.5, right=1.0, top=0.5, height=3, gap=1.0
            )
            plotting.draw_curves(left, table, "rrf")
            plotting.draw_epochs(right, {"a": (epochs, values * NAN)})
        assert [line.get_color() for line in left.get_lines()] == [
            plotting.LINES[0],
            plotting.LINES[2],
        ]
        assert [text.get_text()[-1] for text in left.texts] == ["0", "2"]
        assert len(right.texts) == len(right.get_lines()) == 0

    def test_epochs_end_at_whole_numbers(self):
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            epochs = pd.Series([0.5, 1.5, 2.5])
            plotting.draw_epochs(axes, {"a": (epochs, pd.Series([1.0, 2.0, NAN]))})
        assert axes.get_xlim() == pytest.approx((0, 2.04))
        assert axes.get_lines()[0].get_xdata().tolist() == [0.5, 1.5]


@pytest.mark.parametrize("bounds", [(0.0, 100.0), (8.0, 58.0)])
def test_spread_is_the_nearest_in_least_squares(bounds):
    positions, gap = np.array([10.0, 11.0, 50.0, 9.0, 58.0, 57.0]), 4.0
    spread = _spread(positions, gap, bounds)
    order = np.argsort(positions)
    reference = minimize(
        lambda x: ((x - positions[order]) ** 2).sum(),
        x0=np.linspace(*bounds, len(positions)),
        bounds=[bounds] * len(positions),
        constraints={"type": "ineq", "fun": lambda x: np.diff(x) - gap},
        method="SLSQP",
        options={"ftol": 1e-9},
    )
    assert reference.success
    assert spread[order] == pytest.approx(reference.x, abs=1e-4)


def test_spread_moves_what_touches_around_its_own_middle():
    spread = _spread(np.array([10.0, 11.0, 50.0, 9.0]), 4.0, (0.0, 100.0))
    assert spread == pytest.approx([10.0, 14.0, 50.0, 6.0])


class TestEpochs:
    @staticmethod
    def lines(count: int) -> dict[str, tuple[pd.Series, pd.Series]]:
        values = pd.Series([NAN, 0.7, 0.6, 0.5])
        return {f"a-long-name-of-run-{i}": (pd.Series(range(4)), values) for i in range(count)}

    @pytest.mark.parametrize("count", [1, 12])
    def test_several_runs_fit(self, count):
        """Nothing is cut off, though all lines end in one place: the margins stay white."""
        lines = self.lines(count)
        figure = plotting.epochs_figure(lines, lines, "Heading\nconditions", "2AFC (%)", ("a", "b"))
        figure.canvas.draw()
        image = np.asarray(figure.canvas.buffer_rgba())
        assert (image[:, [0, 1, -2, -1]] == 255).all()
        assert (image[[0, 1, -2, -1]] == 255).all()

    def test_draws_what_there_is(self):
        epochs, nothing = pd.Series(range(4)), pd.Series([NAN] * 4)
        steps = (pd.Series([0.5, 1.0]), pd.Series([0.9, 0.8]))
        figure = plotting.epochs_figure(
            self.lines(1), {"validation": (epochs, nothing)}, "Heading", "2AFC", ("a", "b"), steps
        )
        left, right = figure.axes
        assert [list(line.get_xdata()) for line in left.lines[:1]] == [[0.5, 1.0]]
        assert (len(left.lines), len(right.lines)) == (2, 0)

    def test_refuses_nothing(self):
        with pytest.raises(ValueError, match="losses has no values"):
            plotting.epochs_figure({}, {}, "Heading", "2AFC (%)", ("a", "b"))


class TestPlaceLabels:
    @staticmethod
    def place(points, labels, markers=None, bars=NO_BARS, limits=(-0.1, 1.1)):
        points = np.asarray(points, dtype=float)
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            axes.set(xlim=limits, ylim=limits)
            markers = points if markers is None else markers
            colors = [plotting.LINES[i % 7] for i in range(len(points))]
            plotting.place_labels(axes, points, labels, colors, markers=markers, bars=bars)
            return axes, boxes(axes.texts), axes.transData.transform(markers) / figure.dpi

    @pytest.mark.parametrize("seed", range(5))
    def test_labels_cover_no_label_and_no_marker_and_stay_in_the_panel(self, seed):
        rng = np.random.default_rng(seed)
        points = rng.uniform(0, 1, (16, 2))
        x, y = points.T
        bars = np.vstack([np.stack([x - 0.05, y, x + 0.05, y], 1), np.full((2, 4), NAN)])
        axes, places, markers = self.place(points, [f"label {i}" for i in range(16)], bars=bars)
        assert [text.get_text() for text in axes.texts] == [f"label {i}" for i in range(16)]
        for first, second in itertools.combinations(places, 2):
            assert not overlap(first, second)
        for place, marker in itertools.product(places, markers):
            assert not overlap(place, np.concatenate([marker, marker]))
        frame = axes.bbox.extents / axes.figure.dpi
        assert (places[:, :2] >= frame[:2]).all()
        assert (places[:, 2:] <= frame[2:]).all()
        assert axes.get_xlim() == axes.get_ylim() == (-0.1, 1.1)

    def test_a_label_keeps_off_bars_where_there_is_room(self):
        # The lower left of the point is the one quarter without bars.
        heights = np.linspace(0.52, 1.0, 40)
        above = np.stack([np.zeros(40), heights, np.ones(40), heights], axis=1)
        right = np.stack([heights, np.zeros(40), heights, np.ones(40)], axis=1)
        _, (place,), ((x, y),) = self.place([(0.5, 0.5)], ["a"], bars=np.vstack([above, right]))
        assert place[2] < x
        assert place[3] < y

    def test_labels_are_written_where_bars_leave_no_room(self, capsys):
        heights = np.linspace(-0.1, 1.1, 200)
        bars = np.stack([np.full(200, -0.1), heights, np.full(200, 1.1), heights], axis=1)
        points = [(0.4, 0.5), (0.5, 0.5), (0.6, 0.5)]
        axes, places, _ = self.place(points, ["first", "second", "third"], bars=bars)
        assert [text.get_text() for text in axes.texts] == ["first", "second", "third"]
        assert len(axes.get_lines()) == 3
        assert capsys.readouterr().out == ""
        for first, second in itertools.combinations(places, 2):
            assert not overlap(first, second)

    def test_nothing_to_label(self, capsys):
        _, places, _ = self.place(np.empty((0, 2)), [])
        assert len(places) == 0
        assert capsys.readouterr().out == ""

    def test_refuses_another_number_of_labels(self):
        with pytest.raises(ValueError, match="2 points, 1 labels and 2 colors"):
            self.place([(0.1, 0.2), (0.5, 0.5)], ["a"])


class TestParts:
    def test_scores_stand_in_order(self):
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            plotting.draw_scores(axes, scores().iloc[::-1], "2AFC (%)")
            plotting.draw_score_key(figure, scores().assign(published=NAN))
        assert [label.get_text() for label in axes.get_yticklabels()] == ["l2", "lpips"]
        dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert [(*line.get_xdata(), *line.get_ydata()) for line in dots] == [(62, 0), (70, 1)]
        # A key has no more entries than the panel has kinds of marks.
        assert len(figure.legends[0].get_texts()) == 2

    def test_dots_of_several_quantities_stand_around_their_row(self):
        names = ["rrf_1", "rrf_2"]
        rows = pd.DataFrame({n + end: [1.0, 2.0] for n in names for end in ("", "_low", "_high")})
        with plotting.figure((6.0, 3.8), "") as figure:
            axes = panel(figure)
            plotting.draw_dots(axes, rows, dict.fromkeys(names, ""))
        heights = [line.get_ydata() for line in axes.get_lines()]
        assert np.mean(heights, axis=0) == pytest.approx([0, 1])
        assert not np.array_equal(*heights)

    def test_line_styles_tell_a_dozen_apart(self):
        styles = {
            tuple(plotting.line_style(i)[key] for key in ("color", "linestyle", "marker"))
            for i in range(21)
        }
        assert len(styles) == 21

    @pytest.mark.parametrize(("length", "columns"), [(3, 4), (30, 3), (60, 1), (300, 1)])
    def test_as_many_columns_as_fit(self, length, columns):
        assert plotting.key_columns(["a" * length, "b"], width=9.6) == columns

    def test_bars_are_horizontal_then_vertical(self):
        row = {"rrf_1": 3, "rrf_1_low": 2, "rrf_1_high": 5}
        row |= {"two_afc": 70, "two_afc_low": 68, "two_afc_high": NAN}
        bars = plotting.interval_bars(pd.DataFrame([row]))
        assert bars == pytest.approx(np.array([[2, 70, 5, 70], [3, 68, 3, NAN]]), nan_ok=True)

    def test_thumbnails_are_shown_pixel_by_pixel(self, tmp_path):
        images = [np.full((8, 8, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200))]
        with plotting.figure((4.0, 2.0), "") as figure:
            plotting.draw_thumbnails(figure, 0.5, 0.25, images, ["red", "blue"])
        plotting.save(figure, tmp_path / "a")
        with Image.open(tmp_path / "a.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        side = plotting.THUMBNAIL - 0.1
        for i, shown in enumerate(images):
            left = 0.5 + i * plotting.THUMBNAIL
            y, x = ((160 * np.array([0.25, left])).astype(int) + 2).tolist()
            end = int(160 * side) - 4
            assert (pixels[y : y + end, x : x + end] == shown[0, 0]).all()
        with pytest.raises(ValueError, match="zip"):
            plotting.draw_thumbnails(figure, 0.5, 0.25, images, ["red"])

    def test_cells_line_up(self):
        rows = [(("a", "1", "2"), plotting.GREY, False), (("bb", "33", "44"), plotting.INK, True)]
        with plotting.figure((4.0, 2.0), "") as figure:
            plotting.draw_cells(figure, 0.5, 0.75, 0.2, (1.0, 0.5, 0.75), rows)
            texts = figure.texts[-6:]
            places = boxes(texts).reshape(2, 3, 4)
        assert places[:, 0, 0] == pytest.approx(0.5, abs=0.02)
        assert places[:, 1, 2] == pytest.approx(2.0, abs=0.02)
        assert places[:, 2, 2] == pytest.approx(2.75, abs=0.02)
        assert places[0, :, 3] - places[1, :, 3] == pytest.approx(0.2, abs=0.02)
        assert to_rgb(texts[0].get_color()) == to_rgb(plotting.GREY)
        assert [text.get_weight() for text in texts] == ["normal"] * 3 + ["bold"] * 3
