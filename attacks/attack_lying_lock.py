"""delta.lock says one thing and the store holds another: other shapes, missing tensors, names like paths."""

from attacks.attack_pickle import push
from souq.build.delta_file import read_delta
from souq.weights.lockfile import format_delta


def lines(bazaar, change):
    delta, _ = read_delta(bazaar.delta("greet"))
    return change(format_delta(delta)).encode()


def verdict(bazaar, text, check):
    from souq.pulls import reviews

    number = push(bazaar, {"HOME/delta.lock": text})
    found = reviews.check(bazaar.repo("amira"), number, bazaar.person("amira"))
    return next(v for v in found.verdicts if v.check == check)


def test_tensors_that_are_nowhere(bazaar):
    text = lines(bazaar, lambda text: text)

    assert not verdict(bazaar, text, "tensors")


def test_a_name_like_a_path(bazaar):
    text = lines(bazaar, lambda t: t.replace("lora model.layers.0", "lora ../../layers.0", 1))

    assert "not a stanza" in verdict(bazaar, text, "fits-base").because


def test_a_tensor_the_base_does_not_have(bazaar):
    text = lines(bazaar, lambda t: "\nlora model.layers.7.".join(t.rsplit("\nlora model.layers.1.", 1)))

    assert "which the base does not have" in verdict(bazaar, text, "fits-base").because


def test_another_shape(bazaar):
    """The low-rank pair fits itself but not the matrix."""
    text = lines(
        bazaar, lambda t: t.replace("lora model.layers.0.mlp.down_proj", "lora model.layers.0.mlp.up_proj2", 1)
    )

    assert not verdict(bazaar, text, "fits-base")


def test_not_text(bazaar):
    assert not verdict(bazaar, b"\xff\xfe\x00", "fits-base")
