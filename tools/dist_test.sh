#!/usr/bin/env bash
# Evaluate in several processes, one for each GPU. Without a GPU the processes run on the CPU.
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
# Environment variables, with their defaults, as in mmdet: PORT (29500), NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PYTHON (python).
# dist_elastic.sh sets DIST_TOOL, the tool that runs.
set -euo pipefail
tool=${DIST_TOOL:-test.py}
usage="usage: bash tools/dist_${tool%.py}.sh CONFIG CHECKPOINT PROCESSES [options of tools/$tool]"
config=${1:?$usage}
checkpoint=${2:?$usage}
processes=${3:?$usage}
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node="$processes" \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  "$(dirname "$0")/$tool" "$config" "$checkpoint" --launcher pytorch "${@:4}"
