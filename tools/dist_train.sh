#!/usr/bin/env bash
# Train in several processes, one for each GPU. Without a GPU the processes run on the CPU.
#   bash tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# Environment variables, with their defaults, as in mmdet: PORT (29500), NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PYTHON (python).
set -euo pipefail
usage='usage: bash tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]'
config=${1:?$usage}
processes=${2:?$usage}
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node="$processes" \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
