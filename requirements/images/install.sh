#!/bin/sh
# install.sh NAME DEVICE TORCH_INDEX: an image's packages into /opt/venv, at the versions of constraints.txt. Runs in a build with
# requirements/ and wheelhouse/ mounted under /build; a CA bundle may come as the build secret `ca`.
set -eu
name=$1 device=$2 torch_index=$3
[ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca
python3 -m venv /opt/venv
constraints=/build/requirements/constraints.txt
install() { /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --progress-bar off -c "$constraints" "$@"; }
# A wheel of the wheelhouse is a CPU build; DEVICE=cuda takes torch from PyPI, which brings its CUDA libraries.
links=
[ "$device" != cpu ] || links="--find-links /build/wheelhouse"
case $name in
  torchserve) [ -z "$torch_index" ] || install --index-url "$torch_index" torch ;;
  embedded) if [ "$device" = cpu ]; then install tensorflow-cpu; else install 'tensorflow[and-cuda]'; fi ;;
esac
# shellcheck disable=SC2086  empty or two words
install $links -r "/build/requirements/images/$name.txt"
[ "$name" = torchserve ] || install --no-deps tensorflow-serving-api
# Nothing is installed into a finished image.
/opt/venv/bin/pip uninstall --quiet --yes pip setuptools
