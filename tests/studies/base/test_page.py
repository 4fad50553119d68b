"""Page templates: fields, and what is left out without a value."""

from importlib import resources

import pytest

from robust_lpips.studies.base import page


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A function that fills a template given as text."""
    (tmp_path / "pages").mkdir()
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)

    def fill(text, **values):
        (tmp_path / "pages" / "page.md").write_text(text, encoding="utf-8")
        return page.filled("page", **values)

    return fill


def test_fields_with_attributes_and_formats(template):
    assert template("# A\n\n{x.real} and {y:.2f}", x=3, y=1 / 3) == ["# A", "3 and 0.33"]


def test_a_paragraph_without_a_value_is_left_out_with_its_heading(template):
    text = "# A\n\nfirst\n\n## B\n\n{b}\n\n### C\n\n{c}\n\n## D\n\n{d}\n"
    assert template(text, b=None, c=None, d=1) == ["# A", "first", "## D", "1"]
    assert template(text, b=None, c=2, d=None) == ["# A", "first", "## B", "### C", "2"]


def test_a_field_that_is_not_given_is_an_error(template):
    with pytest.raises(KeyError, match="missing"):
        template("{missing}")
