"""A GPT-2-shaped pass under CrypTen: two processes on loopback, triples by its default provider, a trusted first party.

That provider sends nothing: both parties derive the triples from common seeds, and the first party, which knows them in
full, corrects its own. The bytes are therefore those of the openings alone. All options are CrypTen's defaults.
"""

import math
import multiprocessing
import os
import tempfile
import threading
import time

import crypten
import crypten.communicator
import torch

import gpt2
import loopback

CLIENT, SERVER = 0, 1

# CrypTen's exp is (1 + x/256)^256, which turns around below -256: a masked score may not lie that far down.
MASKED = -100.0


def forward(a, w, x):
    """Logits of the last position; `x` is one-hot rows or embeddings."""
    if a.embedding == "onehot":
        x = x.matmul(w["wte"])

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        variance = x.square().mean(-1, keepdim=True)
        return x * (variance + 1e-5).inv_sqrt() * w[f"{name}.g"] + w[f"{name}.b"]

    def linear(x, name):
        return x.matmul(w[f"{name}.w"]) + w[f"{name}.b"]

    def gelu(x):
        cube = x.square() * x
        return x * ((x + cube * 0.044715) * math.sqrt(2 / math.pi)).tanh() * 0.5 + x * 0.5

    x = x + w["wpe"]
    masked = torch.triu(torch.full((a.tokens, a.tokens), MASKED), diagonal=1)
    for i in range(a.layers):
        heads = linear(norm(x, f"{i}.ln_1"), f"{i}.qkv").reshape(a.tokens, 3, a.heads, -1)
        q, k, v = (part.squeeze(0) for part in heads.permute(1, 2, 0, 3).split(1))
        scores = q.matmul(k.transpose(1, 2)) * (1 / math.sqrt(q.shape[-1])) + masked
        mixed = scores.softmax(-1).matmul(v).permute(1, 0, 2).reshape(a.tokens, -1)
        x = x + linear(mixed, f"{i}.proj")
        x = x + linear(gelu(linear(norm(x, f"{i}.ln_2"), f"{i}.fc")), f"{i}.out")
    return norm(x[-1:], "ln_f").matmul(w["wte"].t())


def party(rank, rendezvous, a, results):
    """Runs one party; gives seconds, bytes and logits."""
    torch.set_num_threads(1)
    # A name of the machine need not resolve in a namespace of its own, so the interface is named.
    os.environ.update(
        WORLD_SIZE="2",
        RANK=str(rank),
        RENDEZVOUS=f"file://{rendezvous}",
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
    )
    crypten.init()
    plain = gpt2.weights(a)
    ids = gpt2.token_ids(a)
    if a.embedding == "onehot":
        x = torch.nn.functional.one_hot(torch.from_numpy(ids), a.vocabulary).float()
    else:
        x = torch.from_numpy(plain["wte"][ids])

    def shared(tensor, owner):
        # Only the owner's values count; the other party brings the shape.
        return crypten.cryptensor(tensor if rank == owner else torch.zeros_like(tensor), src=owner)

    w = {name: shared(torch.from_numpy(value), SERVER) for name, value in plain.items()}
    del plain
    x = shared(x, CLIENT)
    crypten.communicator.get().barrier()
    before, start = loopback.sent_bytes(), time.monotonic()
    logits = forward(a, w, x)
    # Both have finished: nothing is on its way any more.
    crypten.communicator.get().barrier()
    seconds, sent = time.monotonic() - start, loopback.sent_bytes() - before
    results.put((rank, seconds, sent, logits.get_plain_text().numpy()[0]))
    # Taking CrypTen down can wait forever for the other party; the parent ends both.
    threading.Event().wait()


def main():
    a = gpt2.arguments("CrypTen")
    where = loopback.isolate()
    # Processes of their own rather than CrypTen's launcher, which forks and waits for their end before it reads.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.Queue()
        rendezvous = os.path.join(folder, "rendezvous")
        parties = [context.Process(target=party, args=(rank, rendezvous, a, results)) for rank in (CLIENT, SERVER)]
        for p in parties:
            p.start()
        got = sorted((results.get(timeout=3600) for _ in parties), key=lambda g: g[0])
        for p in parties:
            p.terminate()
    expected = gpt2.float_logits(a, gpt2.weights(a), gpt2.token_ids(a))
    gpt2.report(
        f"CrypTen {crypten.__version__}",
        a,
        max(g[1] for g in got),
        max(g[2] for g in got),
        where,
        got[CLIENT][3],
        expected,
        "triples of a trusted first party, made within the time and never sent; not sharing of the inputs",
    )


if __name__ == "__main__":
    main()
