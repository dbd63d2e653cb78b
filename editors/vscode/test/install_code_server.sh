#!/usr/bin/env bash
# Installs a real VS Code that runs in a browser (code-server) into the folder given, for tests.
#
# From the npm registry alone: what its own installer would download (ripgrep) is linked from the
# system, and native modules are compiled against the system's headers of node.
set -euo pipefail
version=4.100.3 # VS Code 1.100, for node 20
folder=${1:?usage: install_code_server.sh FOLDER}
if ! command -v rg >/dev/null; then
    echo "ripgrep is missing (apt-get install ripgrep)" >&2
    exit 1
fi
mkdir -p "$folder"
cd "$folder"
quietly=(--ignore-scripts --no-audit --no-fund --silent)
echo '{"private": true}' >package.json
npm install "${quietly[@]}" --no-package-lock "code-server@$version"

modules=$PWD/node_modules
code=$modules/code-server/lib/vscode
(cd "$code" && npm install "${quietly[@]}" --omit=dev)
(cd "$code/extensions" && npm install "${quietly[@]}" --omit=dev)

prefix=$(node -p 'path.dirname(path.dirname(process.execPath))')
gyp=$(npm root -g)/npm/node_modules/node-gyp/bin/node-gyp.js
compile() { (cd "$1" && node "$gyp" rebuild --loglevel=error --nodedir="$prefix" >/dev/null); }
for module in node-pty @vscode/spdlog native-watchdog; do compile "$code/node_modules/$module"; done
# The server loads it also where nobody needs a password; it finds its parts by a tool of its own.
npm_config_build_from_source=true npm_config_nodedir="$prefix" npm rebuild --silent argon2

ln -sfn node_modules "$code/node_modules.asar"
ln -sfn code-linux.sh "$code/bin/remote-cli/code-server"
ln -sfn browser-linux.sh "$code/bin/helpers/browser.sh"
mkdir -p "$code/node_modules/@vscode/ripgrep/bin"
ln -sfn "$(command -v rg)" "$code/node_modules/@vscode/ripgrep/bin/rg"
touch .done
