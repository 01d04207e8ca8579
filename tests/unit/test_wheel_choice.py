"""Which of the wheels of an artifact is taken."""

from __future__ import annotations

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import wheel_sources

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

SEVERAL = [
    "demo-1.0-cp310-cp310-manylinux_2_28_x86_64.whl",
    "demo-1.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "demo_other-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "broken.whl",
]


def test_of_several_wheels_the_one_that_fits_is_taken() -> None:
    wanted = wheel_sources.Wanted("Demo", "cp312", "x86_64")
    assert wheel_sources.choose(SEVERAL, wanted, "it") == SEVERAL[2]
    abi = ["demo-1.0-cp39-abi3-linux_x86_64.whl", "demo-1.0-cp313-abi3-linux_x86_64.whl", "broken.whl"]
    assert wheel_sources.choose(abi, wanted, "it") == abi[0]
    pure = ["demo-1.0-py3-none-any.whl", "other-1.0-py3-none-any.whl"]
    assert wheel_sources.choose(pure, wanted, "it") == pure[0]


def test_a_single_wheel_is_taken_as_it_is() -> None:
    assert wheel_sources.choose(["other-1.0-py3-none-any.whl"], wheel_sources.Wanted("demo"), "it")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (wheel_sources.Wanted("demo", "", "x86_64"), "2 of its 5 wheels fit demo, x86_64 (demo-1.0-cp310-"),
        (wheel_sources.Wanted("demo", "cp311", ""), "none of its 5 wheels fit demo, cp311 (demo-1.0-cp310-"),
        (wheel_sources.Wanted("nothing"), "none of its 5 wheels fit nothing ("),
    ],
)
def test_several_or_no_fitting_wheels_are_listed(wanted: wheel_sources.Wanted, said: str) -> None:
    with pytest.raises(ValueError, match="take another artifact") as failure:
        wheel_sources.choose(SEVERAL, wanted, "artifact 7 of o/r")
    assert said in str(failure.value)
