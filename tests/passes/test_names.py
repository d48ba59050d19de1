import onnx_graphsurgeon as gs
import pytest

from optc.models.errors import InputError
from optc.passes.names import chosen_names, layer_name, match_patterns

NAMES = ["head", "block.1.conv", "block.2.conv"]


def test_a_node_without_a_name_is_called_as_its_output() -> None:
    output = gs.Variable("y")
    assert layer_name(gs.Node("Relu", "r", outputs=[output])) == "r"
    assert layer_name(gs.Node("Relu", "", outputs=[gs.Variable("z")])) == "z"


@pytest.mark.parametrize(
    ("layers", "skip", "wanted"),
    [
        ((), (), set(NAMES)),
        (("block.*",), (), {"block.1.conv", "block.2.conv"}),
        (("block.*", "head"), ("*.2.*",), {"head", "block.1.conv"}),
        ((), ("head",), {"block.1.conv", "block.2.conv"}),
        (("head",), ("h*",), set()),
    ],
)
def test_names_are_chosen(layers: tuple[str, ...], skip: tuple[str, ...], wanted: set[str]) -> None:
    assert chosen_names("pass", NAMES, layers, skip) == wanted


def test_order_and_case_are_kept() -> None:
    assert match_patterns("pass", NAMES, ("*.2.*", "h*")) == ["head", "block.2.conv"]
    with pytest.raises(InputError, match=r"pass: no node matches 'Head'; the nodes are head, block.1.conv"):
        match_patterns("pass", NAMES, ("Head",), "node")


@pytest.mark.parametrize("options", [{"layers": ("tail",), "skip": ()}, {"layers": (), "skip": ("tail",)}])
def test_a_pattern_that_matches_nothing(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InputError, match="pass: no layer matches 'tail'"):
        chosen_names("pass", NAMES, **options)
