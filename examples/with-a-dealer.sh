#!/usr/bin/env bash
# A private generation on one machine with a dealer: with-a-dealer.sh [PROMPT]
#
# The dealer must collude with neither side: with the client it learns the weights, with the server the prompt.
set -euo pipefail
prompt="${1:-ROMEO: I will}"
models="$PWD/models/tiny-shakespeare"
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"

# A program for dealt material takes fewer rounds.
sscc compile "$models/model.onnx" -o demo.ssb --max-context 48 --prefill 16 --decode 32 --material dealer \
  --calibrate "$models/calibration.npz"

# All three have paired: each with both others.
sides=(client server dealer)
for side in "${sides[@]}"; do
  ssvm keygen --identity "$side"
done
for side in "${sides[@]}"; do
  for other in "${sides[@]}"; do
    if [ "$side" != "$other" ]; then
      ssvm pair --identity "$side" --as "$other" --file "$other/identity.pub"
    fi
  done
done

ssvm dealer demo.ssb --listen 127.0.0.1:7702 --identity dealer &
ssvm run demo.ssb --party 1 --listen 127.0.0.1:7701 --dealer 127.0.0.1:7702 --identity server --state server/state &
ssvm generate demo.ssb --connect 127.0.0.1:7701 --dealer 127.0.0.1:7702 --prompt "$prompt" --max-tokens 8 \
  --identity client --state client/state --cache client/cache
