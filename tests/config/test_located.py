from nanocv_cli.config.located import Located, flatten, nest


def test_a_replacement_leaves_the_original_as_it_was() -> None:
    first = Located({"a": {"b": 1}}, {"a": "f:1", "a.b": "f:2"}, "f:1")
    second = first.replaced("a.b", 2, "--set a.b=2")
    assert (first.value("a.b"), first.where("a.b")) == (1, "f:2")
    assert (second.value("a.b"), second.where("a.b"), second.where("a")) == (2, "--set a.b=2", "f:1")


def test_nested_values_survive_flattening() -> None:
    values = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}
    assert flatten(values) == {"a.b": 1, "a.c.d": [1, 2], "e": None}
    assert nest(flatten(values)) == values
