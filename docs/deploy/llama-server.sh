#!/bin/sh
# Starts llama-server anew with the weights that a worker has put into place:
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

if [ -f "$pid" ]; then
  old=$(cat "$pid")
  # It may have ended by itself.
  kill -9 "$old" 2>/dev/null || true
  # Dead is enough: who takes note of it is another matter.
  while kill -0 "$old" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$old/status" 2>/dev/null; do sleep 0.05; done
fi
# shellcheck disable=SC2086
"${LLAMA_SERVER:-llama-server}" --host 127.0.0.1 --port "${LLAMA_SERVER_PORT:-8080}" --model "$RAO_WEIGHTS" \
  ${LLAMA_SERVER_ARGS:---parallel 4 --ctx-size 4096 --threads-http 32} >"$directory/llama-server.log" 2>&1 &
echo $! >"$pid"
