"""Render leaderboard.md from the records of every evaluation under a folder.

python experiments/render_leaderboard.py
"""

import argparse
from pathlib import Path

from robust_lpips.studies.records import leaderboard, read

from robust_lpips.cli import existing_folder
from robust_lpips.tables import write_text


def main() -> None:
    """Read the records and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=existing_folder,
        default=Path("results"),
        help="where records.jsonl files lie, at any depth (%(default)s)",
    )
    folder = parser.parse_args().folder
    page = leaderboard(read(folder))
    write_text(folder / "leaderboard.md", page)
    print(page)


if __name__ == "__main__":
    main()
