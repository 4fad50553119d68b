"""Run an ablation table of the shift-tolerant LPIPS paper and print it beside the published one.

python experiments/run_ablation.py                       # AlexNet, on the embedded sample set
python experiments/run_ablation.py --table blur-placement
python experiments/run_ablation.py --preset paper --data-root /data/bapps --image-size 256
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch

from robust_lpips.studies.ablation import PRESETS, Study, run
from robust_lpips.studies.pool import available_cores
from robust_lpips.studies.report import write_report
from robust_lpips.studies.rows import TABLES


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, default="alexnet")
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: those of the preset")
    parser.add_argument("--data-root", type=Path, help="BAPPS; default: the embedded sample set")
    parser.add_argument("--image-size", type=int, default=64, help="side of the patches in pixels")
    parser.add_argument("--max-shift", type=int, default=3, help="largest shift in pixels")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="ROW=PATH",
        help="evaluate these checkpoints instead of training those rows",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, help="rows at a time; default: one a CPU core, or 1")
    parser.add_argument("--output", type=Path, help="default: runs/ablation-TABLE-PRESET-...")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    data = "sample" if arguments.data_root is None else "bapps"
    name = f"ablation-{arguments.table}-{arguments.preset}-{data}-{arguments.image_size}px"
    study = Study(
        table=arguments.table,
        preset=arguments.preset,
        output=arguments.output or Path("runs") / name,
        data_root=arguments.data_root,
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        weights={row: Path(path) for row, _, path in (w.partition("=") for w in arguments.weights)},
        device=arguments.device,
    )
    on_cpu = torch.device(arguments.device).type == "cpu"
    jobs = arguments.jobs or (available_cores() if on_cpu else 1)
    tasks = run(study, arguments.rows, arguments.seeds or study.size.seeds, jobs)
    print(write_report(study, tasks, shlex.join(["python", *sys.argv])))
    print(f"Written to {study.output}: summary.csv, summary.md, summary.png, rows/")


if __name__ == "__main__":
    main()
