"""Metal's working set, compared with what llama.cpp and MLX printed on Macs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import macs
from your_ai.system.metal import metal_working_set
from your_ai.units import GB


@pytest.mark.parametrize(
    ("memory_gb", "macos", "printed"),
    [
        (8, "26.5", 5726.63),
        (16, "26.2", 12713.12),
        (18, "26.5", 14302.25),
        (24, "26.0", 19069.67),
        (32, "26.1", 26800.60),
        (36, "26.3", 30150.67),
        (48, "26.4", 40200.90),
        (64, "26.4", 55662.79),
        (128, "26.2", 115448.73),
        (16, "15.1", 11453.25),
        (32, "14.6", 22906.50),
        (36, "15.5", 28991.03),
        (64, "14.5", 51539.61),
        (96, "13.5", 77309.41),
        (512, "15.7", 498216.21),
    ],
)
def test_printed_figures_are_predicted(memory_gb: int, macos: str, printed: float) -> None:
    # llama.cpp prints megabytes of 10^6 bytes with two digits.
    assert metal_working_set(memory_gb * GB, macos) / 1e6 == pytest.approx(printed, abs=0.006)


def test_one_figure_is_a_page_larger() -> None:
    # Two thirds of 24 GB are 16 GB, but 16 KB more were printed.
    assert metal_working_set(24 * GB, "15.6") == 16 * GB == pytest.approx(17179.89e6, abs=21e3)


def test_the_figure_of_a_virtual_mac_is_exact() -> None:
    reported = macs.PARAVIRTUAL["max_recommended_working_set_size"]
    assert metal_working_set(macs.PARAVIRTUAL["memory_size"], "15.7") == reported


def test_macos_26_may_call_itself_16() -> None:
    new = metal_working_set(16 * GB)
    assert new == metal_working_set(16 * GB, "16.0") == metal_working_set(16 * GB, "27.1")
    assert metal_working_set(16 * GB, "") == metal_working_set(16 * GB, "15.7") < new


@given(st.integers(2 * GB, 2048 * GB), st.sampled_from(["14.0", "26.0"]))
def test_it_is_a_share_of_the_memory(memory: int, macos: str) -> None:
    assert 0.66 * memory < metal_working_set(memory, macos) < 0.91 * memory
