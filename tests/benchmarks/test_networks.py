"""Which network a form is of."""

from __future__ import annotations

import pytest

from medcompress.benchmarks.networks import name_within

NAMES = ("", "dense", "macs10", "macs10-96px", "5ms")


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("macs10-openvino-int8-vnni", "macs10"),
        ("macs10-96px-openvino-int8-vnni", "macs10-96px"),
        ("macs100-openvino-int8-vnni", ""),
        ("5ms-onnxruntime-fp32", "5ms"),
        ("openvino-int8-vnni", ""),
        ("macs10", ""),
    ],
)
def test_a_form_is_of_the_network_whose_whole_name_it_begins_with(form: str, name: str) -> None:
    assert name_within(form, NAMES) == name_within(form, reversed(NAMES)) == name
