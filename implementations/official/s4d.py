"""Official S4D modules: the kernel and the block of the S4 repository, and its standalone S4D."""

from collections.abc import Callable

from torch import Tensor

from implementations.models.s4d import StandaloneKernel, StandaloneS4D
from implementations.official.s4 import Config, block, constructor, kernel
from implementations.official.view import OfficialView


def standalone_kernel(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, ("d_model", "N", "dt_min", "dt_max"))
    ours = StandaloneKernel(options["d_model"], options.get("N", 64))
    return OfficialView({"": ours}, lambda: {"K": ours(config["run"]["L"])})


def standalone(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, ("d_model", "d_state", "transposed", "dropout"))
    ours = StandaloneS4D(options["d_model"], options.get("d_state", 64), options.get("dropout", 0.0))
    transposed = options.get("transposed", True)

    def call(x: Tensor) -> dict[str, Tensor]:
        y = ours(x.transpose(1, 2) if transposed else x)
        return {"y": y.transpose(1, 2) if transposed else y, "kernel_K": ours.kernel(config["run"]["L"])}

    return OfficialView({"": ours}, call)


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {
    "SSMKernelDiag": lambda config, variant: kernel(config, variant, "diag"),
    "S4Block": block,
    "S4DKernel": standalone_kernel,
    "S4D": standalone,
}
