"""Whether a scan can be the kernels, asked where Triton may be missing."""

import torch

from world_models.dreamer.rssm import RSSM
from world_models.dreamer.scan import Walk


@torch.no_grad()
def fused_walk(rssm: RSSM, rows: int) -> Walk:
    """The kernels for scans of `rows` sequences, under the autocast that they will run in. ValueError: they cannot."""
    remedy = "Set learner.fused_scan to False."
    try:
        from world_models.dreamer.kernels.fused import Fused, refusal
    except ImportError as error:
        raise ValueError(
            f"learner.fused_scan=True needs Triton, which comes with torch for CUDA ({error}). {remedy}"
        ) from error
    if reason := refusal(rssm.scan_kernels(), rows):
        raise ValueError(f"learner.fused_scan=True, but the scan's kernels cannot do this one: {reason}. {remedy}")
    return Fused()
