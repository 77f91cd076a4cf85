"""libsumo, imported without the warning that it prints about pyarrow, which we do not use here."""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    import libsumo

__all__ = ["libsumo"]
