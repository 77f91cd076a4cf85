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

import pytest  # noqa: E402
import torch  # noqa: E402

from tsc_marl.sim import scenario  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def only_named_networks():
    """No module finds a network outside `networks/` that another module's tests have named."""
    scenario._elsewhere.clear()
