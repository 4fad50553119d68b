"""Pages from templates: the words of a study stand in a Markdown file, not in its code."""

from __future__ import annotations

import re
from importlib import resources
from string import Formatter
from typing import Any


def filled(template: str, **values: Any) -> list[str]:
    """Paragraphs of the template ``studies/pages/<template>.md`` with its fields filled in.

    Fields are those of :meth:`str.format`, as ``{source.judged_by}`` or ``{floor:.3f}``. A
    paragraph with a field whose value is None is left out, and so is a heading that has nothing
    left below it.

    Args:
        template: name of the file without suffix.
        values: by name the values of the fields.

    Raises:
        KeyError: if a field has no value.
    """
    text = (resources.files("robust_lpips.studies") / "pages" / f"{template}.md").read_text("utf-8")
    blocks = [
        block.format_map(values)
        for block in re.split(r"\n{2,}", text.strip())
        if all(values[name] is not None for name in _fields(block))
    ]
    kept: list[str] = []
    # From the end: a heading goes with the headings below it.
    for block in reversed(blocks):
        if not _bare(block, kept[0] if kept else "#"):
            kept.insert(0, block)
    return kept


def _fields(block: str) -> list[str]:
    """Names of the values that a paragraph uses, without attributes and indices."""
    names = [name for _, name, _, _ in Formatter().parse(block) if name]
    return [re.split(r"[.\[]", name)[0] for name in names]


def _bare(block: str, after: str) -> bool:
    """True for a heading before another one of its level or above."""
    level, next_level = (len(each) - len(each.lstrip("#")) for each in (block, after))
    return bool(level) and 0 < next_level <= level
