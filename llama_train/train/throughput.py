"""Tokens per second, and MFU: the share of the hardware's peak that the model's own arithmetic reaches.

MFU = tokens/s x (6 N + 6 L H Q T) / peak, N the parameters that multiply (no embedding lookup), L layers, H heads of Q channels,
T the context: causal attention counted once ("formula B"; formula A, 6 N + 12 L H Q T, counts what is masked away
too)."""

import time

import torch

# Dense bf16 (no sparsity) from the vendors' data sheets, FLOP/s.
PEAK_BF16 = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "MI300X": 1307e12,
}


class Meter:
    """Speed over the time between `start` (or the last `read`) and `read`: evaluation and saving are left out."""

    def __init__(self, flops_per_token: float, device: torch.device, bf16: bool, devices: int):
        self.flops_per_token, self.devices = flops_per_token, devices
        peak, self.peak_name = peak_flops(device, bf16)
        self.peak = peak * devices
        self.since = time.perf_counter()

    def start(self) -> None:
        """Begin to measure now."""
        self.since = time.perf_counter()

    def read(self, tokens: int) -> dict[str, float]:
        """tokens_per_second (of all devices together) and mfu for `tokens` since the last call."""
        now = time.perf_counter()
        speed = tokens / (now - self.since)
        self.since = now
        return {"tokens_per_second": speed, "mfu": speed * self.flops_per_token / self.peak}


def peak_flops(device: torch.device, bf16: bool) -> tuple[float, str]:
    """(FLOP/s, where the figure is from): the data sheet for known GPUs in bf16, else a matrix product measured here."""
    if device.type == "cuda" and bf16:
        name = torch.cuda.get_device_name(device)
        for model, peak in PEAK_BF16.items():
            if model in name:
                return peak, f"{model} data sheet"
    return _measured_peak(device, torch.bfloat16 if bf16 else torch.float32), "matrix product measured here"


def _measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    size = 1024 if device.type == "cpu" else 4096
    own = torch.Generator(device)  # the global one is a run's own: a resumed run must find it as it was saved
    a, b = (torch.randn(size, size, device=device, generator=own).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):  # the first ones warm up
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
