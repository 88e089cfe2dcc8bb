"""Energy by the device's own meter: joules of an NVIDIA GPU where its driver reports them. A CPU has no meter here."""

from __future__ import annotations

import ctypes


def counter(device: str) -> float | None:
    """Joules that the whole device has used since its driver was loaded; None where nothing counts them.

    NVML's nvmlDeviceGetTotalEnergyConsumption (millijoules; Volta and later).
    """
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    failed = (
        nvml.nvmlInit_v2()
        or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle))
        or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
    )
    return None if failed else millijoules.value / 1e3


class Meter:
    """Joules of one run on ``device``, over all its sittings; whatever else used the device meanwhile is in them too."""

    def __init__(self, device: str) -> None:
        self._device, self._start = device, counter(device)
        self._before: float | None = 0.0

    def resume(self, joules: float | None) -> None:
        """Continue from what earlier sittings had counted; None: they did not, so the sum is unknown."""
        self._before = joules

    def joules(self) -> float | None:
        """So far; None where there is no meter."""
        now = counter(self._device)
        if now is None or self._start is None or self._before is None:
            return None
        return self._before + now - self._start
