"""How much of its GPU a learner uses."""

import torch


def gpu_metrics(device: torch.device) -> dict[str, float]:
    """Metrics `gpu/*`: memory in use, by everybody and by this process, and all there is, in GB of 1e9 bytes; the share
    of the last moments in which a kernel ran, if nvidia-ml-py is installed. Empty unless the device is a GPU."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    found = {
        "gpu/memory_gb": (total - free) / 1e9, "gpu/memory_limit_gb": total / 1e9,
        "gpu/learner_memory_gb": torch.cuda.memory_reserved(device) / 1e9,
    }  # fmt: skip
    try:
        found["gpu/utilisation"] = torch.cuda.utilization(device) / 100
    except Exception:  # without nvidia-ml-py or its library; the class of its errors comes with it
        return found
    return found
