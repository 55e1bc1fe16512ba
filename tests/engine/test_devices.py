"""Devices: what `auto` resolves to, and the one line a wrong value earns."""

from __future__ import annotations

import pytest
import torch

from streamer.engine.devices import (
    batch_cost_tokens,
    choose_device,
    choose_device_threads,
    choose_dtype,
    choose_max_tokens,
    cpu_computes_bfloat16,
    on_one_thread,
    thread_setter,
)
from streamer.errors import UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "", "cpu:3"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device '{name}': .*use auto") as refused:
        choose_device(name)
    assert "\n" not in str(refused.value)


def test_dtype_by_name_is_obeyed() -> None:
    assert choose_dtype("float32", CPU) is torch.float32
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UsageError, match=r"^dtype 'half': unknown; use auto, float32 or bfloat16$"):
        choose_dtype("half", CPU)


def test_auto_dtype_on_this_cpu_agrees_with_what_torch_sees() -> None:
    capabilities = torch.cpu.get_capabilities()
    fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    assert choose_dtype("auto", CPU) is (torch.bfloat16 if fast else torch.float32)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx2 avx512f avx512_bf16", True),
        ("fpu avx512f amx_bf16 amx_tile", True),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_bfloat16_is_read_off_the_cpu_flags(flags: str, fast: bool) -> None:
    cpu_info = f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbogomips\t: 5000\n"
    assert cpu_computes_bfloat16(cpu_info) is fast


def test_a_cpu_without_flags_computes_no_bfloat16() -> None:
    assert not cpu_computes_bfloat16("")


def test_max_tokens() -> None:
    assert choose_max_tokens("auto", CUDA) == 16_384
    assert 1_024 <= choose_max_tokens("auto", CPU) <= 8_192
    assert choose_max_tokens(77, CPU) == 77


@pytest.mark.parametrize("value", [0, -1, "many", "12"])
def test_wrong_max_tokens_are_refused(value: str | int) -> None:
    with pytest.raises(UsageError, match=r"^max_tokens '.*': use auto or a whole number of at least 1$"):
        choose_max_tokens(value, CPU)


def test_starting_a_batch_costs_more_on_a_gpu() -> None:
    assert 0 < batch_cost_tokens(CPU) < batch_cost_tokens(CUDA)


def test_a_cpu_scores_a_batch_a_core_and_a_gpu_is_brought_the_next_one() -> None:
    assert choose_device_threads(CPU) == torch.get_num_threads()
    assert choose_device_threads(CUDA) == 2
    assert choose_device_threads(torch.device("mps")) == 1


def test_threads_are_set_for_kernels_on_the_cpu_alone() -> None:
    before = torch.get_num_threads()
    try:
        thread_setter(CUDA)(before + 1)
        assert torch.get_num_threads() == before
        thread_setter(CPU)(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_model_is_loaded_on_one_thread_and_the_caller_has_its_own_again() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with on_one_thread(CPU):
            assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="no model"), on_one_thread(CPU):
            raise ValueError("no model")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
