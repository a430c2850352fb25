"""A GPT-2-shaped pass under SPU: protocol SEMI2K, 64-bit ring, two processes on loopback, Beaver triples by a trusted first
party as SPU does by default.

The program is plain JAX, compiled by SPU. All options are SPU's defaults.
"""

import multiprocessing
import os
import pickle
import socket
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import spu
from spu import libspu
from spu.utils import frontend

import gpt2
import loopback

CONFIG = dict(protocol=libspu.ProtocolKind.SEMI2K, field=libspu.FieldType.FM64)


def forward(a, w, x):
    """Logits of the last position; `x` is one-hot rows or embeddings."""
    if a.embedding == "onehot":
        x = x @ w["wte"]

    def norm(x, name):
        x = x - jnp.mean(x, -1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w[f"{name}.g"] + w[f"{name}.b"]

    def linear(x, name):
        return x @ w[f"{name}.w"] + w[f"{name}.b"]

    x = x + w["wpe"]
    causal = np.tril(np.ones((a.tokens, a.tokens), bool))
    for i in range(a.layers):
        heads = linear(norm(x, f"{i}.ln_1"), f"{i}.qkv").reshape(a.tokens, 3, a.heads, -1)
        q, k, v = jnp.transpose(heads, (1, 2, 0, 3))
        scores = jnp.where(causal, q @ jnp.transpose(k, (0, 2, 1)) / np.sqrt(q.shape[-1]), -1e4)
        mixed = jnp.transpose(jax.nn.softmax(scores, -1) @ v, (1, 0, 2)).reshape(a.tokens, -1)
        x = x + linear(mixed, f"{i}.proj")
        x = x + linear(jax.nn.gelu(linear(norm(x, f"{i}.ln_2"), f"{i}.fc"), approximate=True), f"{i}.out")
    return norm(x[-1:], "ln_f") @ w["wte"].T


def inputs(a):
    """What is shared, in a fixed order: the weights, then the client's input."""
    w, ids = gpt2.weights(a), gpt2.token_ids(a)
    if a.embedding == "onehot":
        x = np.zeros((a.tokens, a.vocabulary), np.float32)
        x[np.arange(a.tokens), ids] = 1
    else:
        x = w["wte"][ids]
    return w, x


def share(a, folder):
    """Writes each party's shares to a file of its own and the compiled program beside them."""
    w, x = inputs(a)
    flat, _ = jax.tree_util.tree_flatten((w, x))
    names = [f"in{i}" for i in range(len(flat))]
    secret = [libspu.Visibility.VIS_SECRET] * len(flat)
    executable, _ = frontend.compile(
        frontend.Kind.JAX, lambda w, x: forward(a, w, x), (w, x), {}, names, secret, lambda out: ["logits"]
    )
    io = spu.Io(2, libspu.RuntimeConfig(**CONFIG))
    files = [open(os.path.join(folder, f"{rank}.shares"), "wb") for rank in (0, 1)]
    for name, value in zip(names, flat):
        for file, part in zip(files, io.make_shares(np.asarray(value), libspu.Visibility.VIS_SECRET)):
            pickle.dump((name, part.meta, list(part.share_chunks)), file)
    for file in files:
        file.close()
    with open(os.path.join(folder, "program"), "wb") as file:
        pickle.dump((executable.name, executable.code, list(executable.input_names)), file)
    np.save(os.path.join(folder, "expected.npy"), gpt2.float_logits(a, w, gpt2.token_ids(a)))


def party(rank, addresses, folder, results):
    """Runs one party."""
    with open(os.path.join(folder, "program"), "rb") as file:
        name, code, input_names = pickle.load(file)
    executable = libspu.Executable(name, input_names, ["logits"], code)
    desc = libspu.link.Desc()
    desc.recv_timeout_ms = 600_000
    for i, address in enumerate(addresses):
        desc.add_party(f"party{i}", address)
    link = libspu.link.create_brpc(desc, rank)
    runtime = spu.Runtime(link, libspu.RuntimeConfig(**CONFIG))
    with open(os.path.join(folder, f"{rank}.shares"), "rb") as file:
        for _ in input_names:
            name, meta, chunks = pickle.load(file)
            part = libspu.Share()
            part.meta, part.share_chunks = meta, chunks
            runtime.set_var(name, part)
    link.barrier()
    before, start = loopback.sent_bytes(), time.monotonic()
    runtime.run(executable)
    # Both have finished: nothing is on its way any more.
    link.barrier()
    seconds, sent = time.monotonic() - start, loopback.sent_bytes() - before
    logits = runtime.get_var("logits")
    results.put((rank, seconds, sent, logits.meta, list(logits.share_chunks)))
    link.barrier()
    link.stop_link()


def main():
    a = gpt2.arguments("SPU SEMI2K")
    where = loopback.isolate()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        maker = context.Process(target=share, args=(a, folder))
        maker.start()
        maker.join()
        assert maker.exitcode == 0, "the program could not be made"
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        addresses = ["127.0.0.1:%d" % s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        results = context.Queue()
        parties = [context.Process(target=party, args=(rank, addresses, folder, results)) for rank in (0, 1)]
        for p in parties:
            p.start()
        got = sorted((results.get(timeout=3600) for _ in parties), key=lambda g: g[0])
        for p in parties:
            p.join()
        expected = np.load(os.path.join(folder, "expected.npy"))
    parts = []
    for _, _, _, meta, chunks in got:
        part = libspu.Share()
        part.meta, part.share_chunks = meta, chunks
        parts.append(part)
    logits = spu.Io(2, libspu.RuntimeConfig(**CONFIG)).reconstruct(parts)[0]
    gpt2.report(
        f"SPU {spu.__version__} SEMI2K FM64",
        a,
        max(g[1] for g in got),
        max(g[2] for g in got),
        where,
        logits,
        expected,
        "triples of a trusted first party, made and sent within the time; not compilation, nor sharing of the inputs",
    )


if __name__ == "__main__":
    main()
