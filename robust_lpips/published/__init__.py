"""Numbers that papers report, as data, to be printed next to measured ones."""

from robust_lpips.published.numbers import (
    PUBLISHED_NAMES,
    published,
    published_answers,
    published_of,
    published_scores,
    published_shares,
)
from robust_lpips.published.rows import PUBLISHED_QUANTITIES, Row, table_rows

__all__ = [
    "PUBLISHED_NAMES",
    "PUBLISHED_QUANTITIES",
    "Row",
    "published",
    "published_answers",
    "published_of",
    "published_scores",
    "published_shares",
    "table_rows",
]
