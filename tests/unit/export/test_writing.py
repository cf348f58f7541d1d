"""A converter's error becomes one line that says what is wrong, not where in a graph."""

from export.writing import short

COMPILER = """<unknown>:0: error: loc(callsite(fused["X:"] at fused["Y:"])): 'tf.TensorListReserve' op requires a static shape
<unknown>:0: note: loc(fused["Y:"]): called from
<unknown>:0: note: loc(fused["Z
Lowering tensor list ops is failed."""


def test_the_places_are_left_out_and_the_words_kept():
    said = short(ValueError(COMPILER))
    assert said == "ValueError: 'tf.TensorListReserve' op requires a static shape Lowering tensor list ops is failed."


def test_a_long_error_is_cut():
    assert len(short(RuntimeError("x" * 5000))) == 300
