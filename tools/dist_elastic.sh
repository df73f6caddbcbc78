#!/usr/bin/env bash
# Make a trained detector elastic in several processes, one for each GPU. Without a GPU the processes run on the CPU.
#   bash tools/dist_elastic.sh CONFIG CHECKPOINT PROCESSES [options of tools/elastic.py]
# Environment variables as in tools/dist_test.sh. On several nodes the work dir must be a folder that all nodes share.
DIST_TOOL=elastic.py exec bash "$(dirname "$0")/dist_test.sh" "$@"
