#!/bin/sh
# Makes the virtualenv of a release from the wheelhouse, as ppctl does: install.sh HOME
set -eu
home=$1 release=$1/releases/1
cd "$home/wheelhouse"
python3 -m zipfile -e uv-*.whl "$home/unpacked"
python3 -m zipfile -e ppctl-*.whl "$home/unpacked"
uv=$(echo "$home"/unpacked/uv-*.data/scripts/uv)
chmod 0755 "$uv"
"$uv" venv --quiet --clear --offline --no-config --python /usr/bin/python3 "$release"
install() {
    "$uv" pip install --quiet --offline --no-cache --no-config --compile-bytecode --no-index \
        --find-links "$home/wheelhouse" --python "$release/bin/python" "$@"
}
install --require-hashes --requirement "$home/unpacked/ppctl/server/requirements.lock"
install --no-deps ppctl
rm -r "$home/unpacked"
touch "$release/complete"
