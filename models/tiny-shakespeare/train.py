"""Trains a model like the one in this directory and exports it to ONNX.

    pip install torch onnx tokenizers numpy
    python train.py tinyshakespeare.txt OUTPUT_DIRECTORY

The text is Shakespeare's (public domain), 1,115,394 bytes, from github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt,
sha256 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed. Its first 90 % train, the rest validates.

Architecture  GPT-2 (Radford et al. 2019): 4 layers, width 128, 4 heads, context 128, tanh GELU, tied embeddings; byte-level
              BPE of 1,024 tokens. 940,800 parameters.
Training      AdamW (betas 0.9, 0.95; weight decay 0.1 on matrices), learning rate 3e-3 with a warm-up and a cosine to zero,
              batches of 24 x 128 tokens, dropout 0.05 in the first half and 0.1 in the second. The model in this directory
              took about 33 minutes of CPU time and reaches 3.41 nats a token on the validation part.
Output        model.onnx       input_ids [batch, seq] -> logits, by the TorchScript exporter at opset 17
              model.io.npz     one input (`in_input_ids`) and PyTorch's output for it (`out_0`)
              tokenizer.json   Hugging Face format
              windows.npz      token windows of 64: `calibration` (16, training part), `validation` (200)
              calibration.npz  `input_ids`: 64 windows of 64, evenly spaced over the training part, for `sscc compile`

The seed fixes the run on one machine; other versions and processors round differently and give other weights.
"""

import argparse
import math
import pathlib

import numpy as np
import tokenizers
import torch
from torch import nn
from torch.nn import functional as F

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 4, 128, 4, 128, 1024
BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 24, 3e-3, 0.1, 100


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
        self.c_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (p.view(batch, length, HEADS, -1).transpose(1, 2) for p in self.c_attn(x).split(WIDTH, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(batch, length, WIDTH))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(WIDTH), Attention()
        self.ln_2, self.mlp = nn.LayerNorm(WIDTH), Mlp()
        self.dropout = dropout

    def forward(self, x):
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout()  # One for all places, so that its rate is set once.
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.h = nn.ModuleList(Block(self.dropout) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS))
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, input_ids):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.dropout(self.wte(input_ids) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def train_tokenizer(text):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def windows(ids, count, length, generator):
    starts = torch.randint(len(ids) - length + 1, (count,), generator=generator)
    return torch.stack([ids[s : s + length] for s in starts.tolist()])


def calibration(ids):
    """Windows by position alone: the same for every seed."""
    length = 64
    starts = [i * (len(ids) - length) // 63 for i in range(64)]
    return torch.stack([ids[s : s + length] for s in starts])


def nats(logits, ids):
    """Mean cross entropy of every next token."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def learning_rate(step, steps):
    """Linear warm-up, then a cosine to zero."""
    warm_up = min(1.0, (step + 1) / WARM_UP)
    return LEARNING_RATE * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(model, training, validation, steps, generator):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [dict(params=matrices, weight_decay=WEIGHT_DECAY), dict(params=vectors, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))
    held_out = windows(validation, 64, CONTEXT, generator)
    for step in range(steps):
        model.train()
        model.dropout.p = 0.05 if step < steps // 2 else 0.1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = windows(training, BATCH, CONTEXT, generator)
        loss = nats(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            model.eval()
            with torch.no_grad():
                print(f"step {step}: training {loss:.3f}, validation {nats(model(held_out), held_out):.3f} nats", flush=True)


def export(model, example, output):
    model.eval()
    with torch.no_grad():
        logits = model(example)
    np.savez(output / "model.io.npz", in_input_ids=example.numpy(), out_0=logits.numpy())
    torch.onnx.export(
        model,
        (example,),
        str(output / "model.onnx"),
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_axes={"input_ids": {0: "batch", 1: "seq"}, "logits": {0: "batch", 1: "seq"}},
        opset_version=17,
        dynamo=False,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path, help="tinyshakespeare.txt")
    parser.add_argument("output", type=pathlib.Path, help="directory for the files, made if missing")
    parser.add_argument("--steps", type=int, default=2000, help="batches to train on (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()

    torch.manual_seed(flags.seed)
    generator = torch.Generator().manual_seed(flags.seed)
    flags.output.mkdir(parents=True, exist_ok=True)
    text = flags.text.read_text(encoding="utf-8")
    split = len(text) * 9 // 10
    tokenizer = train_tokenizer(text[:split])
    tokenizer.save(str(flags.output / "tokenizer.json"))
    training, validation = (torch.tensor(tokenizer.encode(part).ids) for part in (text[:split], text[split:]))

    model = Gpt2()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(training):,} tokens", flush=True)
    train(model, training, validation, flags.steps, generator)
    np.savez(
        flags.output / "windows.npz",
        calibration=windows(training, 16, 64, generator).numpy(),
        validation=windows(validation, 200, 64, generator).numpy(),
    )
    np.savez(flags.output / "calibration.npz", input_ids=calibration(training).numpy())
    export(model, windows(validation, 1, 16, generator), flags.output)


if __name__ == "__main__":
    main()
