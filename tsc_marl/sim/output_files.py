"""Files that SUMO writes because an input file says so: they go to the run's folder, wherever their names point."""

import copy
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tsc_marl.sim.xml_files import elements

DETECTORS = (
    "e1Detector", "inductionLoop", "e2Detector", "laneAreaDetector", "e3Detector", "entryExitDetector", "instantInductionLoop",
    "e1", "e2", "e3", "edgeData", "laneData", "vTypeProbe", "vtypeprobe", "routeProbe",
)  # fmt: skip
WRITTEN = {**dict.fromkeys(DETECTORS, "file"), "timedEvent": "dest", "calibrator": "output"}
"""Per element, the attribute that names the file that SUMO writes."""
PARAMETERS = ("device.ssm.file", "device.toc.file", "device.rerouting.output")
"""Keys of `param` elements that name such a file; in a `tlLogic`, `file` too."""
READ = {
    **dict.fromkeys(("rerouter", "variableSpeedSign", "calibrator"), "file"),
    **dict.fromkeys(("edgeData", "laneData"), "edgesFile"),
    **dict.fromkeys(("poly", "poi"), "imgFile"),
}
"""Per element, the attribute that names a file that SUMO reads; a relative path starts at the file that has the element."""
NOWHERE = ("NUL", "/dev/null")


def outputs(tag: str, attributes: Mapping[str, str], parent: str = "") -> list[tuple[str, str]]:
    """Return the attributes of an element that make SUMO write a file, with the file's name.

    Args:
        tag: the element's name.
        attributes: its attributes.
        parent: the name of the element that it stands in.
    """
    if tag not in WRITTEN and tag != "param":
        return []
    names = [WRITTEN[tag]] if tag in WRITTEN else []
    key = attributes.get("key") if tag == "param" else None
    if key in PARAMETERS or (key == "file" and parent == "tlLogic"):
        names = ["value"]
    return [(name, attributes[name]) for name in names if attributes.get(name) and attributes[name] not in NOWHERE]


@functools.cache
def writes(path: Path) -> bool:
    """Return whether an additional or route file makes SUMO write files.

    Raises:
        UserError: when the file is not well-formed, or has a value that cannot be.
    """
    return any(outputs(element.tag, element.attrib, top.tag) for top in elements(path) for element in top.iter())


def redirect(top: Element, copied: Path) -> None:
    """Let the outputs of an element, and of those in it, go to the folder of a copied file, under names that begin as its own."""
    for element in top.iter():
        for name, target in outputs(element.tag, element.attrib, top.tag):
            parts = [part for part in Path(target).parts if part.strip("/.")]
            element.set(name, str(copied.resolve().parent / "_".join((copied.name.split(".")[0], *parts))))


def confine(path: Path, out: Path, name: str) -> Path:
    """Return an additional file with the same content whose outputs go to the folder `out`: a copy, where there are any.

    Args:
        path: the file.
        out: folder of the copy and of the outputs.
        name: makes the copy's name differ from those of other files with the same one.

    Raises:
        UserError: when the file is not well-formed, or has a value that cannot be.
    """
    if not writes(path):
        return path
    copied = out / f"{path.name.split('.')[0]}_{name}.outputs.xml"
    root = Element("additional")
    for top in elements(path):
        redirect(top, copied)
        for element, name, file in inputs(top):
            element.set(name, str(path.resolve().parent / file))
        root.append(copy.deepcopy(top))
    ElementTree.ElementTree(root).write(copied, encoding="utf-8")
    return copied


def inputs(top: Element) -> Iterator[tuple[Element, str, str]]:
    """Yield the attributes of an element, and of those in it, that name a file which SUMO reads."""
    for element in top.iter():
        name = READ.get(element.tag, "")
        if name in element.attrib:
            yield element, name, element.attrib[name]
