"""Many exported trainings, for measurements of load: copies of the published ones with other seeds and folders.

`PYTHONPATH=tests python -m helpers.copies FOLDER 200` writes as many files.
"""

import gzip
import itertools
import json
import sys
from pathlib import Path

from helpers.cli import ROOT


def write(folder: Path, number: int) -> None:
    """Write files of one training each."""
    folder.mkdir(parents=True, exist_ok=True)
    published = sorted((ROOT / "docs" / "trainings" / "grid4x4").glob("study-*.json.gz"))
    copies = ((copy, path) for copy in range(10) for path in published)
    for copy, path in itertools.islice(copies, number):
        content = json.loads(gzip.decompress(path.read_bytes()))
        (training,) = content["trainings"]
        name = f"{content['run']['tags']['folder']}-{copy}"
        training["run"]["tags"]["seed"] = str(int(training["run"]["tags"]["seed"]) + 100 * copy)
        for part in (content, training):
            part["run"]["tags"]["folder"] = name
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
