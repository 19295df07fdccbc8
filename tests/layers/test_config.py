"""The sizes of a layer: what is refused, and the figures derived from them."""

import pytest

from lpa_export.layers import LPA, LPAConfig


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"hidden_size": 10, "num_heads": 4}, "multiple of num_heads"),
        ({"num_heads": 0}, "num_heads must be positive"),
        ({"kernel_size": 4}, "odd"),
        ({"aperiodic": 0, "periodic": 0, "positional": 0}, "at least one pulse"),
        ({"periodic": -1}, "negative"),
        ({"min_width": 0.5}, "1 <= min < max"),
        ({"min_period": 40.0, "max_period": 30.0}, "periods"),
        ({"max_offset": 0.0}, "max_offset"),
    ],
)
def test_sizes_that_cannot_make_a_layer_are_refused_by_name(
    sizes: dict[str, float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        LPAConfig(**{"hidden_size": 12, "num_heads": 4, **sizes})  # type: ignore[arg-type]


def test_band_holds_the_farthest_edge_of_any_window() -> None:
    assert LPAConfig(12, 4, max_offset=6.5, max_width=9.0).band == 11
    assert LPAConfig(12, 4).band == 32


def test_parameters_have_the_names_that_checkpoints_use() -> None:
    names = set(LPA(LPAConfig(12, 4)).state_dict())
    assert names == {
        "value.weight",
        "value.bias",
        "output.weight",
        "output.bias",
        "context.weight",
        "controls.weight",
        "controls.bias",
        "periodic.log_period",
        "periodic.phase",
        "periodic.duty",
        "positional.centre",
        "positional.half_width",
    }
