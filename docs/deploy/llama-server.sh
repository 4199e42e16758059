#!/bin/sh
# Starts llama-server anew with the weights that a worker has put into place, and ends when it has loaded them:
#
#   rao worker --nats URL --policy-backend openai --server http://127.0.0.1:8080/v1 --weights DIR --reload docs/deploy/llama-server.sh
#
#   LLAMA_SERVER         the binary; llama-server by default
#   LLAMA_SERVER_PORT    where it listens on this machine; 8080 by default
#   LLAMA_SERVER_ARGS    more arguments; by default four slots of 1024 tokens, and a thread for each of the worker's 32 requests
#
# The server stays when the worker ends; its process is in DIR/llama-server.pid, what it says in DIR/llama-server.log.
set -eu
directory=$(dirname "$RAO_WEIGHTS")
pid="$directory/llama-server.pid"
log="$directory/llama-server.log"

# Whether that process runs with these weights: a number that was written down may be another's by now, and a zombie serves nobody.
serves() { ps -o args= -p "$1" 2>/dev/null | grep -qF -- "--model $RAO_WEIGHTS"; }

if [ -f "$pid" ]; then
  old=$(cat "$pid")
  if serves "$old"; then kill -9 "$old"; fi
  while serves "$old"; do sleep 0.05; done
fi
: >"$log"
# shellcheck disable=SC2086
"${LLAMA_SERVER:-llama-server}" --host 127.0.0.1 --port "${LLAMA_SERVER_PORT:-8080}" --model "$RAO_WEIGHTS" \
  ${LLAMA_SERVER_ARGS:---parallel 4 --ctx-size 4096 --threads-http 32} >>"$log" 2>&1 &
new=$!
echo "$new" >"$pid"
# It listens only on a port that nobody else has, and says so when the weights are there.
until grep -q 'listening on http' "$log"; do
  if ! kill -0 "$new" 2>/dev/null; then
    echo "llama-server did not start:" >&2
    tail -n 3 "$log" >&2
    exit 1
  fi
  sleep 0.05
done
