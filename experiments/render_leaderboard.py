"""Render leaderboard.md from the records of every evaluation under a folder.

python experiments/render_leaderboard.py
"""

import argparse
from pathlib import Path

from robust_lpips.cli import existing_path
from robust_lpips.records import leaderboard, read
from robust_lpips.tables import write_text


def main() -> None:
    """Read the records, write the page and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=existing_path,
        default=Path("results"),
        help="folder that holds records.jsonl files, at any depth (%(default)s)",
    )
    folder = parser.parse_args().folder
    page = leaderboard(read(folder))
    write_text(folder / "leaderboard.md", page)
    print(page)


if __name__ == "__main__":
    main()
