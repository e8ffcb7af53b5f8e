"""Names with a setting."""

import pytest

from implementations import registry, settings
from implementations.errors import RegistryError


def test_a_setting_replaces_hyper_parameters_in_every_mode():
    item = registry.find("w64=seqboat-fused(window=64)")
    assert (item.title, item.plain) == ("w64", "seqboat(window=64)")  # the reference has it as well
    for mode in ("published", "matched", "small"):
        plain = registry.find("seqboat-fused").hyperparameters("text", mode)
        assert item.hyperparameters("text", mode) == {**plain, "window": 64}
    assert registry.find("seqboat(window=64)").title == "SeqBoat (window=64)"


def test_one_text_for_one_setting():
    assert str(settings.parse(" m( b = 2,a='x') ")) == "m(a=x, b=2)"
    values = {"a": "x y", "b": None, "c": True, "d": [1, 2], "e": "None", "f": "true", "g": 1e-3, "h": "if"}
    assert settings.parse(str(settings.Setting("m", values, "row"))) == settings.Setting("m", values, "row")


def test_commas_in_brackets_separate_no_names():
    assert settings.split("a,m(x=[1,2],y=3),b") == ["a", "m(x=[1,2],y=3)", "b"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("seqboat(windwo=64)", "seqboat: unknown hyper-parameter 'windwo'; known: "),
        ("seqboat(window=abc)", "window is 128 by default, so it cannot be 'abc'"),
        ("./models/mine.py:build", "is a file's path; name its module, as models.mine:build"),
        ("mine.py:build", "is a file's path; name its module, as mine:build"),
        ("seqboot(window=64)", "unknown implementation 'seqboot'; did you mean 'seqboat'?"),
        ("seqboat(64)", "write hyper-parameters as"),
        ("seqboat(window=64", "write hyper-parameters as"),
        ("seqboat(window=64)(dim=3)", "write hyper-parameters as"),
        ("seqboat(window=open('x'))", "write hyper-parameters as"),
        ("m:build(x=1j)", "write hyper-parameters as"),
        ("m:build(x=...)", "write hyper-parameters as"),
        ("m:build(x=1e999)", "write hyper-parameters as"),
        ("m:build(x=[1, -1e999])", "write hyper-parameters as"),
        ("m:build(x={1: 2})", "write hyper-parameters as"),
        ("m:build(x=b'a')", "write hyper-parameters as"),
        (f"m:build(x={1 << 64})", "write hyper-parameters as"),
        ("seqboat(window=1,window=2)", "give each hyper-parameter once"),
        ("seqboat(**x)", "give each hyper-parameter once"),
        ("=seqboat", "write a setting as"),
        ("a b=seqboat", "write a setting as"),
    ],
)
def test_what_can_not_be_set_is_one_line(name, words):
    with pytest.raises(RegistryError) as caught:
        registry.find(name).hyperparameters("text")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plug_in_must_ask_for_what_is_set():
    def build(task, hyperparameters):
        return {"dim": hyperparameters.get("dim", 32), **hyperparameters}

    def deaf(task, hyperparameters):
        return hyperparameters.get("dim", 32)

    assert settings.checked("m:build", build, {"dim": 8})(None, {"dim": 8}) == {"dim": 8}
    assert settings.checked("m:deaf", deaf, {"dim": 8})(None, {"dim": 8}) == 8
    with pytest.raises(RegistryError, match="m:deaf: unknown hyper-parameter 'dmi'"):
        settings.checked("m:deaf", deaf, {"dmi": 8})(None, {"dmi": 8})
