"""The device's energy meter, with a driver library of the test's own in NVML's place."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from acodm_core.measure import energy


class Driver:
    """NVML as far as it is called; ``millijoules`` is what its counter says."""

    def __init__(self, millijoules: int, broken: str = "") -> None:
        self.millijoules, self.broken, self.asked = millijoules, broken, b""

    def nvmlInit_v2(self) -> int:  # NVML's name
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle) -> int:
        self.asked = uuid
        return int(self.broken == "device")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules) -> int:
        millijoules._obj.value = self.millijoules
        return 3 * int(self.broken == "counter")  # 3: not supported, as of cards before Volta


@pytest.fixture
def driver(monkeypatch):
    import torch

    fake = Driver(5_000)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    return fake


def test_a_cpu_has_no_meter():
    meter = energy.Meter("cpu")
    assert energy.counter("cpu") is None and meter.joules() is None


def test_a_run_is_what_the_counter_gained_over_all_sittings(driver):
    meter = energy.Meter("cuda:0")
    driver.millijoules = 7_500
    assert driver.asked == b"GPU-12-34" and meter.joules() == 2.5
    later = energy.Meter("cuda:0")
    later.resume(2.5)
    driver.millijoules = 8_500
    assert later.joules() == 3.5


@pytest.mark.parametrize("broken", ["device", "counter"])
def test_a_device_that_reports_nothing_gives_nothing(driver, broken):
    driver.broken = broken
    assert energy.Meter("cuda").joules() is None


def test_without_the_library_there_is_no_meter(driver, monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert energy.counter("cuda") is None


def test_a_sitting_that_was_not_metered_leaves_the_sum_unknown(driver):
    meter = energy.Meter("cuda")
    meter.resume(None)
    assert meter.joules() is None
