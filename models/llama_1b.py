#!/usr/bin/env python3
"""Makes a model of the shape of LLaMA 3.2 1B with made-up weights: what compiling a file of 5 GB takes.

    pip install -r requirements.txt && pip install --no-deps optimum==2.3.0 optimum-onnx==0.1.0
    python llama_1b.py OUT [LAYERS]

Time          about five minutes, 16 GB of memory, 11 GB of disk (of which half is given back).
Architecture  LLaMA: 16 layers (or LAYERS), width 2,048, 32 heads on 8 key heads of 64, feed-forward 8,192, 128,256 tokens, tied
              embeddings, rotary frequencies scaled as in LLaMA 3. Normal weights of deviation 0.02 with a fixed seed.
Output        OUT/model.onnx             by Optimum, task text-generation-with-past, opset 17, with model.onnx_data beside it
              OUT/calibration.npz        `input_ids` [32, 32], random
"""

import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    import numpy as np
    import torch
    import transformers
    from optimum.exporters.onnx import onnx_export_from_model

    out = pathlib.Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=2_048,
        intermediate_size=8_192,
        num_hidden_layers=int(sys.argv[2]) if len(sys.argv) == 3 else 16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8_192),
        tie_word_embeddings=True,
        bos_token_id=128_000,
        eos_token_id=128_001,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    # Without post-processing, which holds the whole file in memory twice.
    onnx_export_from_model(model, out, opset=17, task="text-generation-with-past", do_validation=False, no_post_process=True)
    np.savez(out / "calibration.npz", input_ids=np.random.default_rng(0).integers(0, 128_000, (32, 32)))
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>15,}  {path.name}")


if __name__ == "__main__":
    main()
