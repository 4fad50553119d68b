"""Download the public data sets, and unpack them where the loaders look.

python experiments/download_data.py --list
python experiments/download_data.py bapps-jnd bapps-2afc-val --root data/bapps
python experiments/download_data.py clic2021-val --root data/clic

A download that was interrupted goes on where it stopped.
"""

import argparse
from pathlib import Path

from robust_lpips.data.download import DATASETS, download


def main() -> None:
    """Download what is named, one after the other, or list what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(DATASETS)}")
    parser.add_argument("--root", type=Path, help="folder that the data goes into")
    parser.add_argument("--list", action="store_true", help="say what there is, and from where")
    arguments = parser.parse_args()
    if arguments.list:
        print(listing())
        return
    if not arguments.names or arguments.root is None:
        parser.error("expected names of data sets and --root, or --list")
    if unknown := [name for name in arguments.names if name not in DATASETS]:
        parser.error(f"NAME must be some of {', '.join(DATASETS)}; got {', '.join(unknown)}")
    for name in arguments.names:
        try:
            folder = download(name, arguments.root)
        except (ValueError, OSError) as error:
            raise SystemExit(f"{name}: {error}") from error
        print(f"{name}: in {folder}")


def listing() -> str:
    """Name, source and addresses of every data set."""
    lines = []
    for dataset in DATASETS.values():
        lines.append(f"{dataset.name}: {dataset.note}")
        for archive in dataset.archives:
            digest = "no digest published" if archive.md5 is None else f"MD5 {archive.md5}"
            lines.append(f"    {archive.url} ({digest})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
