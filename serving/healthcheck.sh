#!/bin/bash
# healthcheck.sh torchserve|tfserving [start]: exit 0 when every model version in FACEOFF_MODELS ("cnn/1 lstm/1") answers.
#
# Asked of the server itself over loopback, in bash alone (the images have no curl), so that one costs milliseconds. By default
# the version's state: a worker READY, AVAILABLE. With `start` also a real prediction of /models/probes/<model>.json, because
# TensorFlow Serving can say AVAILABLE with its GPU's memory exhausted. A prediction counts in the server's own metrics, so it is sent at start only.
set -euo pipefail
server=$1 mode=${2:-state}

ask() { # ask PORT PATH [BODY-FILE]: the answer, headers included
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  if [ $# = 3 ]; then
    printf 'POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n' \
      "$2" "$(stat -c %s "$3")" >&3
    cat "$3" >&3
  else
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
  fi
  timeout 10 cat <&3
  exec 3>&-
}

[ -n "${FACEOFF_MODELS:-}" ]
for model in $FACEOFF_MODELS; do
  name=${model%/*} version=${model#*/}
  case $server in
    torchserve) state=$(ask 8081 "/models/$name/$version") word='"status": "READY"' path="/predictions/$name/$version" port=8080 ;;
    tfserving) path="/v1/models/$name/versions/$version" port=8501 word='"state": "AVAILABLE"' state=$(ask 8501 "$path") path="$path:predict" ;;
    *) echo "healthcheck.sh: unknown server $server" >&2; exit 2 ;;
  esac
  if [[ $state != *"$word"* ]]; then echo "$model: not $word yet"; exit 1; fi
  if [ "$mode" = start ]; then
    answer=$(ask "$port" "$path" "/models/probes/$name.json")
    if [[ $answer != *'"predictions"'* ]]; then echo "$model does not predict: ${answer:0:300}"; exit 1; fi
  fi
done
