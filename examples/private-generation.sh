#!/usr/bin/env bash
# A private generation on one machine, without a third party: private-generation.sh [PROMPT]
set -euo pipefail
prompt="${1:-ROMEO: I will}"
models="$PWD/models/tiny-shakespeare"
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"

# The owner of the model. Sizes: prompts of up to 16 tokens, texts until 32 places are taken.
sscc compile "$models/model.onnx" -o demo.ssb --max-context 48 --prefill 16 --decode 32 --calibrate "$models/calibration.npz"

# A key for each side, pinned by the other in the role that it has.
ssvm keygen --identity server
ssvm keygen --identity client
ssvm pair --identity server --as client --file client/identity.pub
ssvm pair --identity client --as server --file server/identity.pub

# The server keeps material for 64 tokens at most for each client.
ssvm run demo.ssb --party 1 --listen 127.0.0.1:7701 --stock 64 --identity server --state server/state &

# The client makes the material of a text with it, and then a text from that.
client=(--connect 127.0.0.1:7701 --identity client --state client/state --cache client/cache)
ssvm prepare demo.ssb --tokens 8 "${client[@]}"
ssvm stocks --check --identity client --state client/state
ssvm generate demo.ssb --prompt "$prompt" --max-tokens 8 --json "${client[@]}"
