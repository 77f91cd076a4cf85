"""Networks of the repository with other fields in their scenario.yaml."""

import yaml

from tsc_marl.paths import NETWORKS


def network_with(folder, network, **fields):
    """Make the folder of a network whose files are those of one of the repository; return it."""
    raw, own = yaml.safe_load((NETWORKS / network / "scenario.yaml").read_text(encoding="utf-8")), NETWORKS / network
    raw |= {"net": str(own / raw["net"]), "routes": [str(own / path) for path in raw["routes"]]}
    folder.mkdir()
    (folder / "scenario.yaml").write_text(yaml.safe_dump(raw | fields), encoding="utf-8")
    return folder
