"""Every annotation of the learning code is checked at run time while the tests run."""

from jaxtyping import install_import_hook

# Before anything imports them. Not the simulation: it has no tensors, and the checks take 40 % of its time.
install_import_hook(
    [
        f"tsc_marl.{name}"
        for name in ("types", "ops", "nn", "algos", "analysis.gradient_statistics", "analysis.advantage_estimators")
    ],
    "beartype.beartype",
)

import torch  # noqa: E402

torch.set_num_threads(1)
