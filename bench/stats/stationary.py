"""Is a process warm: have its step times come to rest?"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def is_stationary(step_seconds: Sequence[float], window: int = 3, tolerance: float = 0.1) -> bool:
    """Whether the last `window` steps lie within `tolerance` of their median, and show no clear descent.

    A warm-up that still descends (caches fill, allocators grow) makes every step faster than the one before,
    by more than half the tolerance over the window; noise of a hundredth hardly ever does.
    """
    if len(step_seconds) < window:
        return False
    last: npt.NDArray[np.float64] = np.asarray(step_seconds[-window:], dtype=np.float64)
    median = float(np.median(last))
    descends = bool((np.diff(last) < 0).all()) and last[0] - last[-1] > tolerance / 2 * median
    return not descends and bool(np.abs(last - median).max() <= tolerance * median)
