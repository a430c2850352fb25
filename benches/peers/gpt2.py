"""The model that every peer runs: GPT-2's shape with weights made up from a seed, its float pass, and what all scripts share.

Shapes: token ids [tokens], activations [tokens, width], logits [vocabulary] of the last position. The output matrix is the
token table, as in GPT-2. Nothing here belongs to a peer.
"""

import argparse
import json

import numpy as np

SEED = 1


def arguments(peer):
    """The command line, which is the same for every peer."""
    parser = argparse.ArgumentParser(description=f"Runs a GPT-2-shaped pass under {peer} and prints one line of JSON.")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument(
        "--embedding",
        choices=["client", "onehot"],
        default="client",
        help="client: the client looks its embeddings up by itself, which costs nothing and needs the server's table; "
        "onehot: one-hot rows times the server's table",
    )
    return parser.parse_args()


def weights(a):
    """float32 weights by name, matrices as [in, out]."""
    random = np.random.default_rng(SEED)

    def normal(*shape, scale):
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    d = a.width
    # The spread of GPT-2's own tables: rows much smaller would be lost in the rounding of 16 fractional bits.
    w = {"wte": normal(a.vocabulary, d, scale=0.14), "wpe": normal(a.tokens, d, scale=0.12)}
    for i in range(a.layers):
        for name, fan_in, fan_out in [("qkv", d, 3 * d), ("proj", d, d), ("fc", d, 4 * d), ("out", 4 * d, d)]:
            # The two that write to the residual stream are smaller, as in GPT-2.
            scale = 0.02 / np.sqrt(2 * a.layers) if name in ("proj", "out") else 0.02
            w[f"{i}.{name}.w"] = normal(fan_in, fan_out, scale=scale)
            w[f"{i}.{name}.b"] = normal(fan_out, scale=0.01)
    for name in [f"{i}.ln_{j}" for i in range(a.layers) for j in (1, 2)] + ["ln_f"]:
        w[f"{name}.g"] = np.float32(1) + normal(d, scale=0.05)
        w[f"{name}.b"] = normal(d, scale=0.01)
    return w


def token_ids(a):
    """The prompt."""
    return (np.arange(a.tokens, dtype=np.int64) * 7919 + 13) % a.vocabulary


def float_logits(a, w, ids):
    """The same pass in the clear, to compare with."""

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.g"] + w[f"{name}.b"]

    def linear(x, name):
        return x @ w[f"{name}.w"] + w[f"{name}.b"]

    x = w["wte"][ids] + w["wpe"]
    causal = np.tril(np.ones((a.tokens, a.tokens), bool))
    for i in range(a.layers):
        heads = linear(norm(x, f"{i}.ln_1"), f"{i}.qkv").reshape(a.tokens, 3, a.heads, -1)
        q, k, v = heads.transpose(1, 2, 0, 3)
        scores = np.where(causal, q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]), -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (e / e.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(1, 0, 2).reshape(a.tokens, -1), f"{i}.proj")
        h = linear(norm(x, f"{i}.ln_2"), f"{i}.fc")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"{i}.out")
    return norm(x[-1:], "ln_f")[0] @ w["wte"].T


def report(peer, a, seconds, sent, where, logits, expected, includes):
    """The line of JSON."""
    print(
        json.dumps(
            {
                "peer": peer,
                "tokens": a.tokens,
                "layers": a.layers,
                "width": a.width,
                "heads": a.heads,
                "vocabulary": a.vocabulary,
                "embedding": a.embedding,
                "online_seconds": round(seconds, 3),
                "sent_bytes": sent,
                "bytes_measured": where,
                "greatest_logit_error": round(float(np.abs(logits - expected).max()), 4),
                "same_next_token": bool(logits.argmax() == expected.argmax()),
                "includes": includes,
            }
        ),
        flush=True,
    )
