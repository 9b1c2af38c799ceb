"""Says on what a run trained, so that its times and its scores can be read later."""

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """The device, processor, number of cores and of threads of this process, and the system.

    Args:
        device: where the module trained.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": name or device.type,
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor_name() -> str:
    """The processor's name as the system gives it; its architecture if that has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())
