#!/usr/bin/env python3
"""Turns the ONNX project's backend node tests into models whose inputs are floats alone, each with its expected outputs.

    pip install -r requirements.txt
    python node_tests.py OUT [--few FOLDER]

Time      about a minute, 30 MB of disk; of the packages only `onnx` is used (its test cases are code that makes models; Apache-2.0).
Which     tests with a float32 input whose other inputs are integers or booleans: those become initializers, the floats stay inputs.
          The forms whose op is spelt out (`_expanded`) are taken like the others.
Left out  other element types, strings, sequences and optionals; and ops that have no place in a transformer, in groups (see GROUPS).
Output    NAME.onnx
          NAME.io.npz    `in_INPUT`, `out_OUTPUT`, and `single` = 1: the first axis does not count samples
          left_out.txt   NAME, reason
--few     copies one small test of each op (model and arrays below 4 KB together) to FOLDER.
"""

import argparse
import collections
import pathlib
import shutil
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

SMALL = 4096

# Ops that are left out, by why.
GROUPS = {
    "convolution and pooling": """AveragePool CausalConvWithState Col2Im Conv ConvInteger ConvTranspose DeformConv GlobalAveragePool GlobalMaxPool
        LRN LpPool MaxPool MaxUnpool QLinearConv""",
    "image and geometry": "AffineGrid CenterCropPad Det GridSample ImageDecoder NonMaxSuppression Resize RoiAlign Upsample",
    "signal": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    "recurrent": "GRU LSTM LinearAttention RNN",
    "training and losses": "Adagrad Adam Gradient Momentum NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "control flow": "If Loop Scan SequenceMap",
    "random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "quantised numbers and bits": "BitCast DequantizeLinear DynamicQuantizeLinear QuantizeLinear QLinearMatMul",
    "a size that depends on a secret": "Compress Unique",
    "program in attributes": "FlexAttention TreeEnsemble",
    "ops of the domain ai.onnx.ml": "ArrayFeatureExtractor Binarizer LabelEncoder",
    "optional and sequence": "OptionalGetElement OptionalHasElement SequenceInsert",
}
REASON = {op: reason for reason, ops in GROUPS.items() for op in ops.split()}
INTEGERS = {TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.BOOL,
            TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
RECORDED = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}


def op_of(case) -> str:
    """The op that a test is about; of an expanded one, the op that was expanded, as far as its name tells."""
    ops = {n.op_type for n in case.model.graph.node}
    if "_expanded" not in case.name:
        return next(iter(ops)) if len(ops) == 1 else case.model.graph.node[0].op_type
    words = case.name.removeprefix("test_").split("_expanded")[0].replace("_", "")
    known = [s.name for s in onnx.defs.get_all_schemas() if words.startswith(s.name.lower())]
    return {"nllloss": "NegativeLogLikelihoodLoss", "sce": "SoftmaxCrossEntropyLoss"}.get(
        next((k for k in ("nllloss", "sce") if words.startswith(k)), ""), max(known, key=len, default=words))


def refusal(case) -> str | None:
    """Why a test is not written."""
    graph = case.model.graph
    ends = list(graph.input) + list(graph.output)
    if reason := REASON.get(op_of(case)):
        return reason
    if any(n.domain not in ("", "ai.onnx") for n in graph.node):
        return "another domain"
    if not all(e.type.HasField("tensor_type") for e in ends):
        return "sequence or optional"
    kinds = [i.type.tensor_type.elem_type for i in graph.input]
    if TensorProto.FLOAT not in kinds:
        return "no float32 input"
    if any(k != TensorProto.FLOAT and k not in INTEGERS for k in kinds):
        return "an input of another type"
    if any(o.type.tensor_type.elem_type not in RECORDED for o in graph.output):
        return "an output of another type"
    if len(case.data_sets) != 1 or len(case.data_sets[0][0]) != len(graph.input):
        return "inputs that do not match the graph's"
    return None


def write(case, out: pathlib.Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    inputs, outputs = case.data_sets[0]
    arrays = {"single": np.array(1)}
    secret = []
    for value, x in zip(case.model.graph.input, inputs):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            arrays[f"in_{value.name}"] = np.asarray(x, np.float32)
            secret.append(value)
        else:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(x, kind)).reshape(np.shape(x)), value.name))
    del graph.input[:]
    graph.input.extend(secret)
    for value, y in zip(graph.output, outputs):
        arrays[f"out_{value.name}"] = np.asarray(y)
    onnx.checker.check_model(model)
    onnx.save(model, out / f"{case.name}.onnx")
    np.savez(out / f"{case.name}.io.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--few", type=pathlib.Path, metavar="FOLDER")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    given.out.mkdir(parents=True, exist_ok=True)

    left_out, written = {}, {}
    for case in sorted(collect_testcases(None), key=lambda c: c.name):
        reason = refusal(case)
        if reason is None:
            try:
                write(case, given.out)
                written[case.name] = op_of(case)
                continue
            except onnx.checker.ValidationError as e:
                reason = f"not valid: {e}".splitlines()[0]
        left_out[case.name] = reason
    (given.out / "left_out.txt").write_text("".join(f"{name}\t{reason}\n" for name, reason in left_out.items()))
    expanded = sum("_expanded" in name for name in written)
    print(f"{len(written)} tests of {len(set(written.values()))} ops, {expanded} of them expanded; {len(left_out)} left out:")
    for reason, count in collections.Counter(left_out.values()).most_common():
        print(f"  {count:4} {reason}")

    if given.few:
        given.few.mkdir(parents=True, exist_ok=True)
        files = {name: [given.out / f"{name}.onnx", given.out / f"{name}.io.npz"] for name in written if "_expanded" not in name}
        size = {name: sum(f.stat().st_size for f in pair) for name, pair in files.items()}
        for op in sorted(set(written.values())):
            name = min((n for n in files if written[n] == op), key=lambda n: (size[n], n), default=None)
            if name and size[name] < SMALL:
                for file in files[name]:
                    shutil.copy(file, given.few)
        print(f"{len(list(given.few.glob('*.onnx')))} small tests in {given.few}")


if __name__ == "__main__":
    main()
