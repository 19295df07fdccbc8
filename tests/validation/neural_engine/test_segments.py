"""Runs and breaks against sequences drawn by hand."""

from lpa_validate.rules.neural_engine.graph import Graph, Op, Value
from lpa_validate.rules.neural_engine.segments import segmentation


def graph(text: str) -> tuple[Graph, list[bool]]:
    """ "a:x b!:a c:a,b": operations with what they read; ! marks one off the Neural Engine."""
    ops, stays = [], []
    for word in text.split():
        name, _, sources = word.partition(":")
        stays.append(not name.endswith("!"))
        name = name.rstrip("!")
        read = tuple(Value(source, (1,), "fp16") for source in sources.split(",") if source)
        ops.append(Op("op", name, {"values": read}, (Value(name, (1,), "fp16"),)))
    return Graph("main", tuple(ops), (), ()), stays


def drawn(text: str) -> tuple[list[str], list[str]]:
    """Segments and islands as words of operation names."""
    made, stays = graph(text)
    found = segmentation(made, stays)
    return tuple(  # type: ignore[return-value]
        ["".join(made.ops[i].name for i in group) for group in groups]
        for groups in (found.segments, found.islands)
    )


def test_a_chain_is_cut_where_an_operation_is_off() -> None:
    assert drawn("a:x b:a c!:b d:c e!:d f!:e g:f") == (["ab", "d", "g"], ["c", "e"])


def test_what_is_off_at_either_end_cuts_nothing() -> None:
    assert drawn("a!:x b:a c:b d!:c") == (["bc"], [])


def test_a_side_branch_that_does_not_come_back_cuts_nothing() -> None:
    assert drawn("a:x b!:a c:a d!:b") == (["ac"], [])


def test_only_what_depends_on_the_island_waits_for_it() -> None:
    # a -> b! -> e, and a -> c -> d: c and d run with a, e after b.
    assert drawn("a:x b!:a c:a d:c e:b,d") == (["acd", "e"], ["b"])


def test_an_operation_off_on_the_input_side_alone_cuts_nothing() -> None:
    # The cast of a second input is done before everything, wherever it stands.
    assert drawn("a:x b:a m!:y c:b,m d:c") == (["abcd"], [])


def test_parallel_islands_share_one_gap() -> None:
    assert drawn("a:x b!:a c!:a d:b,c") == (["a", "d"], ["bc"])


def test_nothing_stays_where_everything_is_off() -> None:
    assert drawn("a!:x b!:a") == ([], [])
