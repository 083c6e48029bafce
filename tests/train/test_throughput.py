"""Speed and MFU by their formula; no assertion on how fast anything is."""

import pytest
import torch

from llama_train.train import throughput


def test_mfu_is_speed_times_arithmetic_over_peak(monkeypatch):
    now = iter([0.0, 10.0, 14.0])
    monkeypatch.setattr(throughput, "peak_flops", lambda device, bf16: (1e6, "data sheet"))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now))
    meter = throughput.Meter(flops_per_token=5e3, device=torch.device("cpu"), bf16=True, devices=2)
    meter.start()  # at 10 s: what came before is not counted
    assert meter.read(400) == {"tokens_per_second": 100.0, "mfu": 100.0 * 5e3 / 2e6}


def test_the_peak_of_an_unknown_device_is_measured():
    peak, source = throughput.peak_flops(torch.device("cpu"), bf16=False)
    assert peak > 1e8
    assert source == "matrix product measured here"


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12)],
)
def test_known_gpus_have_their_data_sheet(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert throughput.peak_flops(torch.device("cuda"), bf16=True)[0] == peak
