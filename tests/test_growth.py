"""A process does not grow with the episodes that it plays."""

import tempfile

from helpers.growth import play


def test_open_files_and_temporary_space_stay_flat(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    first, *_, last = play(24, 8, tmp_path)
    assert last.open_files <= first.open_files
    assert last.temporary_bytes <= first.temporary_bytes
