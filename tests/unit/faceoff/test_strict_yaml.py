import pytest
import yaml

from faceoff import strict_yaml


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 1\n", 2),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', 1),
        ("a:\n  - {b: 1,\n     'b': 2}\n", 3),
        ("1: x\n1: y\n", 2),
    ],
)
def test_a_name_that_is_there_twice_is_refused_with_its_line(text, line):
    with pytest.raises(yaml.YAMLError, match=rf"the name '\w' is there twice, again in line {line}$"):
        strict_yaml.load(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, {a: 1}, {a: 2}]",
        "a: {b: 1}\nc: {b: 2}\n",
        "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\nz: &z {<<: *x, b: 4}\nw: {<<: *z}\n",  # what is merged in may be replaced
        "a: !!timestamp 2020-01-01\n",
    ],
)
def test_all_else_is_as_safe_load_reads_it(text):
    assert strict_yaml.load(text) == yaml.safe_load(text)


def test_it_is_as_safe_as_safe_load():
    with pytest.raises(yaml.YAMLError):
        strict_yaml.load("!!python/object/apply:os.getcwd []")
