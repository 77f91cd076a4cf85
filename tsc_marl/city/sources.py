"""What a city is made from: an OSM extract, a SUMO network, a SUMO configuration."""

from dataclasses import dataclass
from pathlib import Path

from tsc_marl.errors import UserError
from tsc_marl.sim import scenario, sumocfg, xml_files

ENDINGS = (".gz", ".xml", ".osm", ".net", ".sumocfg")
"""Left out of the name of a file, in this order."""
EXPECTED = "an OSM extract (.osm, .osm.gz, .osm.xml.gz), a SUMO network (.net.xml), a .sumocfg file, or a folder with one"


@dataclass(frozen=True)
class Source:
    """The file that a city is made from."""

    kind: str
    """`osm`, `net` or `sumocfg`."""
    path: Path

    @property
    def name(self) -> str:
        """Name of the network, where the user gives none: that of the file, of osmWebWizard's folder that of the folder."""
        stem = self.path.name
        for ending in ENDINGS:
            stem = stem.removesuffix(ending)
        return self.path.absolute().parent.name if (self.kind, stem) == ("sumocfg", "osm") else stem


def recognise(path: Path) -> Source:
    """Return what a file or folder is.

    Raises:
        UserError: when it is none of these.
    """
    if not path.exists():
        raise UserError(f"from {path}: no such file; give {EXPECTED}")
    if path.is_dir():
        return Source("sumocfg", _configuration(path))
    if path.suffix == ".pbf":
        raise UserError(f"from {path}: compressed by Protobuf, which netconvert cannot read; osmium cat {path} -o city.osm.gz")
    root = xml_files.root_tag(path)
    if root in sumocfg.ROOTS:
        return Source("sumocfg", path)
    if root in ("osm", "net"):
        return Source(root, path)
    what = "no XML" if root is None else f"an XML file of another kind (root element {root})"
    raise UserError(f"from {path}: {what}; give {EXPECTED}")


def _configuration(folder: Path) -> Path:
    """Return the one configuration in a folder."""
    if (folder / scenario.FILE).exists():
        raise UserError(f"from {folder}: has a {scenario.FILE}, so it is a network already: NET={folder}")
    files = sorted(folder.glob("*.sumocfg"))
    if not files:
        raise UserError(f"from {folder}: a folder without a .sumocfg file; give {EXPECTED}")
    if len(files) > 1:
        raise UserError(f"from {folder}: has {len(files)} .sumocfg files; give one of them, such as {files[0]}")
    return files[0]
