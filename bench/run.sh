#!/bin/sh
# What `make bench` calls: see bench.py.
exec python3 "$(dirname "$0")/bench.py" "$@"
