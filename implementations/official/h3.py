"""Official H3 modules: the layer, and its two kernels."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from implementations.models.h3 import H3, DiagonalKernel, ShiftKernel
from implementations.official.s4 import Config, constructor
from implementations.official.view import OfficialView, Unsupported, paths_of


def layer(config: Config, variant: str | None) -> OfficialView:
    options = constructor(
        config, variant, ("d_model", "d_state", "l_max", "head_dim", "mode", "measure", "dropout")
    )
    length = config["run"]["L"]
    if options.get("mode", "diag") != "diag":
        raise Unsupported(f"no H3 of mode {options['mode']!r}")
    if length > (options.get("l_max") or length):
        raise Unsupported("no H3 kernel that is shorter than its input")
    ours = H3(options["d_model"], options.get("d_state", 64), options.get("head_dim", 1))

    def call(x: Tensor) -> dict[str, Tensor]:
        return {
            "y": ours(x),
            "ssm_kernel": ours.diagonal(length),
            "shift_kernel": _padded(ours.shift(length), length),
        }

    names = {"shift_D": "ssm_k_D", "shift": "ssm_k_kernel.kernel", "diagonal": "kernel.kernel"}
    return OfficialView(paths_of(ours, renames=names), call)


def kernel(config: Config, variant: str | None) -> OfficialView:
    options = constructor(config, variant, ("H", "N", "L", "mode", "measure"))
    if options["mode"] not in ("diag", "shift"):
        raise Unsupported(f"no kernel of mode {options['mode']!r}")
    ours = (ShiftKernel if options["mode"] == "shift" else DiagonalKernel)(options["H"], options["N"])
    length = config["run"]["L"]
    return OfficialView({"kernel": ours}, lambda: {"K": _padded(ours(length), length).unsqueeze(0)})


def _padded(kernel: Tensor, length: int) -> Tensor:
    return F.pad(kernel, (0, length - kernel.shape[-1]))


MODULES: dict[str, Callable[[Config, str | None], OfficialView]] = {"H3": layer, "SSKernel": kernel}
