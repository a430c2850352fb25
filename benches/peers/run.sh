#!/usr/bin/env bash
# Runs a peer: benches/peers/run.sh crypten|spu [--tokens N] [--layers N] ... prints one line of JSON, the rest goes to stderr.
# Makes the peer's virtual environment first, if it is not there: target/peers/NAME, 1 to 5 GB.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
name="${1:?crypten or spu}"
shift
[ -f "$here/requirements-$name.txt" ] || { echo "no peer is called $name: crypten or spu" >&2; exit 1; }
environment="$here/../../target/peers/$name"
if [ ! -f "$environment/complete" ]; then
    "${PYTHON:-python3.11}" -m venv "$environment"
    "$environment/bin/pip" install --quiet --no-deps -r "$here/requirements-$name.txt" >&2
    touch "$environment/complete"
fi
"$environment/bin/python" "$here/${name}_gpt2.py" "$@" | grep '^{'
