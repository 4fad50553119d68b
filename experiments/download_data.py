"""Download the public data sets, and unpack them where the loaders look.

python experiments/download_data.py --list
python experiments/download_data.py bapps-jnd bapps-2afc-val --root data/bapps
python experiments/download_data.py clic2021-val --root data/clic

An interrupted download resumes where it stopped.
"""

from robust_lpips.cli import download_main

if __name__ == "__main__":
    download_main(__doc__)
