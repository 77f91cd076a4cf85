"""Every annotation of the package is checked at run time while the tests run."""

from jaxtyping import install_import_hook

install_import_hook("tsc_marl", "beartype.beartype")  # before anything imports the package

import torch  # noqa: E402

torch.set_num_threads(1)
