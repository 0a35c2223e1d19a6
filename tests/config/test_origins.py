from nanocv_cli.config.origins import Located


def test_a_replacement_leaves_the_original_as_it_was() -> None:
    first = Located({"a": {"b": 1}}, {"a": "f:1", "a.b": "f:2"}, "f:1")
    second = first.replaced("a.b", 2, "--set a.b=2")
    assert (first.value("a.b"), first.where("a.b")) == (1, "f:2")
    assert (second.value("a.b"), second.where("a.b"), second.where("a")) == (2, "--set a.b=2", "f:1")
