#!/usr/bin/env python3
"""Makes the small SavedModels that transcripts.jsonl were recorded on.

usage: make_models.py OUT_DIR      (needs tensorflow 2.x; recorded with 2.20)
Writes OUT_DIR/<model>/<version>/saved_model.pb ...; every weight is seeded.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def sig(inputs, outputs, method=PREDICT):
    info = v1.saved_model.utils.build_tensor_info
    return v1.saved_model.signature_def_utils.build_signature_def(
        inputs={k: info(t) for k, t in inputs.items()}, outputs={k: info(t) for k, t in outputs.items()}, method_name=method
    )


def save_graph(path, build):
    """build() -> {signature name: SignatureDef}, in a fresh graph-mode graph without variables."""
    with tf.Graph().as_default(), v1.Session() as s:
        sigs = build()
        b = v1.saved_model.builder.SavedModelBuilder(path)
        b.add_meta_graph_and_variables(s, ["serve"], signature_def_map=sigs, strip_default_attrs=True)
        b.save()


def affine(bias):
    def build():
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(tf.multiply(x, 0.5), bias, name="y")
        ex = v1.placeholder(tf.string, [None], name="tf_example")
        fx = v1.parse_example(ex, {"x": v1.FixedLenFeature([1], tf.float32)})["x"]  # [N,1]
        fy = tf.add(tf.multiply(fx, 0.5), bias, name="fy")  # [N,1]
        n = tf.shape(fx)[0]
        classes = tf.tile(tf.constant([["low", "high"]]), tf.stack([n, 1]), name="classes")
        scores = tf.concat([fy, fy + 1.0], axis=1, name="scores")
        return {
            "serving_default": sig({"x": x}, {"y": y}),
            # classify: labels and scores; classify_scores: scores only
            "classify_x": sig({"inputs": ex}, {"classes": classes, "scores": scores}, CLASSIFY),
            "classify_scores": sig({"inputs": ex}, {"scores": scores}, CLASSIFY),
            "regress_x": sig({"inputs": ex}, {"outputs": fy}, REGRESS),
        }

    return build


class Images(tf.Module):  # the one object-based model with variables
    def __init__(self):
        super().__init__()
        rng = np.random.RandomState(7)
        # weights are multiples of 1/256 so that sums are exact for inputs that are too
        self.w = tf.Variable(rng.randint(-8, 9, (28, 10)).astype(np.float32) / 256.0)
        self.b = tf.Variable(rng.randint(-8, 9, (10,)).astype(np.float32) / 256.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, name="images")])
    def serve(self, images):
        rows = tf.reduce_sum(images, axis=[2, 3])  # [N,28]
        return {"logits": tf.linalg.matmul(rows, self.w) + self.b}


def two_in():
    ids = v1.placeholder(tf.int32, [None, None], name="ids")
    mask = v1.placeholder(tf.int32, [None, None], name="mask")
    m = ids * mask
    total = tf.reduce_sum(tf.cast(m, tf.int64), axis=1, name="total")
    cnt = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
    score = tf.math.divide_no_nan(tf.cast(total, tf.float32), cnt, name="score")
    return {"serving_default": sig({"ids": ids, "mask": mask}, {"score": score, "sum": total})}


def strings():
    t = v1.placeholder(tf.string, [None], name="text")
    ln = tf.strings.length(t, name="length")
    up = tf.strings.upper(t, name="upper")
    return {
        "serving_default": sig({"text": t}, {"length": ln, "upper_bytes": up}),
        "plain": sig({"text": t}, {"upper": up}),  # string output, no _bytes suffix
        "from_bytes": sig({"raw_bytes": t}, {"length": ln}),
    }  # string input, _bytes suffix


def dtypes():
    kinds = {"b": tf.bool, "i64": tf.int64, "f64": tf.float64, "u8": tf.uint8}
    ins = {k: v1.placeholder(d, [None], name=k) for k, d in kinds.items()}
    outs = {k + "_out": tf.identity(t, name=k + "_out") for k, t in ins.items()}
    sigs = {"serving_default": sig(ins, outs)}
    for k in kinds:  # one signature per type
        sigs["only_" + k] = sig({k: ins[k]}, {k + "_out": outs[k + "_out"]})
    return sigs


def nans():
    x = v1.placeholder(tf.float32, [None], name="x")
    inf = tf.divide(x, tf.zeros_like(x), name="inf")  # x/0: inf, -inf or nan
    nan = tf.math.log(-tf.abs(x) - 1.0, name="nan")  # log(<0): nan
    same = tf.identity(x, name="same")
    return {
        "serving_default": sig({"x": x}, {"inf": inf, "nan": nan}),
        "only_inf": sig({"x": x}, {"inf": inf}),
        "only_nan": sig({"x": x}, {"nan": nan}),
        "same": sig({"x": x}, {"same": same}),
    }


def matrix():
    m = v1.placeholder(tf.float32, [None, 2, 3], name="m")
    m2 = tf.multiply(m, 2.0, name="m2")
    return {
        "serving_default": sig({"m": m}, {"m2": m2}),
        "total": sig({"m": m}, {"total": tf.reduce_sum(m, name="total")}),
    }  # scalar: no batch dim


def main(out):
    for name in ("affine", "images", "two_in", "strings", "dtypes", "nans", "matrix"):
        shutil.rmtree(Path(out) / name, ignore_errors=True)

    def p(*parts):
        return str(Path(out, *map(str, parts)))

    save_graph(p("affine", 1), affine(2.0))
    save_graph(p("affine", 2), affine(3.0))
    for name, build in (("two_in", two_in), ("strings", strings), ("dtypes", dtypes), ("nans", nans), ("matrix", matrix)):
        save_graph(p(name, 1), build)
    im = Images()
    tf.saved_model.save(im, p("images", 1), signatures={"serving_default": im.serve})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "models")
