"""Replace results that a study keeps."""

from pathlib import Path

import pandas as pd

from robust_lpips._files import read_json, write_json
from robust_lpips.evaluation import write_distances
from robust_lpips.tasks.task import RECORD_FILE


def replace_distances(table: pd.DataFrame, output: Path, name: str) -> None:
    """Write other distances to ``output/name``, and their size to the record beside them.

    Files of another size than recorded count as damaged, and are measured again.
    """
    path = output / name
    write_distances(table, path)
    record = read_json(path.with_name(RECORD_FILE))
    (stage,) = (entry for entry in record.values() if name in entry["files"])
    stage["files"][name] = path.stat().st_size
    write_json(path.with_name(RECORD_FILE), record)
