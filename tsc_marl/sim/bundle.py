"""The files of a scenario as one object that travels to another machine."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tsc_marl.paths import temporary_folder
from tsc_marl.sim import output_files, xml_files
from tsc_marl.sim.scenario import FILE, Scenario


@dataclass(frozen=True)
class Bundle:
    """A scenario with the content of its files, and of those that they include.

    The folder of each network is a numbered folder of the bundle, so that the paths inside the files stay right.
    """

    digest: str
    """Of the paths and contents."""
    scenario: Scenario
    """With paths that start at the folder of the bundle."""
    files: dict[str, bytes]
    """Contents by path."""


def pack(scenario: Scenario) -> Bundle:
    """Read the files of a scenario.

    Raises:
        UserError: when one of them is not well-formed.
    """
    named = (*scenario.routes, *scenario.additional)
    every = list(dict.fromkeys(path.resolve() for path in (scenario.net, *(part for one in named for part in _with_named(one)))))
    folders = list(dict.fromkeys(map(xml_files.network_folder, every)))

    def place(path: Path) -> Path:
        folder = xml_files.network_folder(path.resolve())
        return Path(str(folders.index(folder)), path.resolve().relative_to(folder))

    files = {f"{number}/{FILE}": b"" for number in range(len(folders))}  # marks the network's folder
    files |= {str(place(path)): path.read_bytes() for path in every}
    content = hashlib.sha256()
    for name, data in sorted(files.items()):
        content.update(f"{name} {len(data)} ".encode() + data)
    routes, additional = (tuple(map(place, paths)) for paths in (scenario.routes, scenario.additional))
    moved = replace(scenario, net=place(scenario.net), routes=routes, additional=additional)
    return Bundle(content.hexdigest(), moved, files)


def _with_named(path: Path) -> Iterator[Path]:
    """Yield a route or additional file, and the files that it names, directly or through others."""
    for file in (path, *xml_files.includes(path)):
        yield file
        for element in xml_files.elements(file):
            inputs = (file.resolve().parent / name for _, _, name in output_files.inputs(element))
            yield from (name for name in inputs if name.is_file())


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Write the contents of a bundle as a folder, which is complete or absent, whoever else writes it meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent) as scratch:
        new = Path(scratch, "new")
        for name, data in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():  # nobody was quicker
                raise


def at(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario of a bundle with its files in a folder."""
    routes, additional = (tuple(folder / path for path in paths) for paths in (scenario.routes, scenario.additional))
    return replace(scenario, net=folder / scenario.net, routes=routes, additional=additional)
