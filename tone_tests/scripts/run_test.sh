#!/usr/bin/env bash
# Run one test case, or all of them one after the other. The exit code is the worst: 0 pass, 1 fail, 2 error.
set -euo pipefail

SCRIPTS_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
DECLARATIONS=$SCRIPTS_DIR/../../playbooks/vars

usage() {
    {
        echo "usage: run_test.sh run-single TEST_CASE [ARGUMENT…]   one test case, such as test_1p1d_erdma"
        echo "       run_test.sh run-all [ENGINE]                   all of them, or those of an engine, such as SGLANG"
    } >&2
    exit 2
}

fail() {
    echo "error: $1" >&2
    exit 2
}

# A wrapper in the foreground would keep this shell from hearing a signal, so it runs beside it and gets it handed on.
child=
stopped=
hand_on() {
    stopped=1
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap hand_on INT TERM HUP

run_wrapper() {
    local code=0
    "$@" &
    child=$!
    while true; do
        wait "$child" && code=0 || code=$?
        kill -0 "$child" 2>/dev/null || break # a signal ended the wait, not the wrapper
    done
    child=
    return "$code"
}

# Print the names of all wrappers: those of the suites in their order, what tells a fault of the network first.
in_order() {
    local name
    {
        sed -n 's/^ *- \(test_[a-z0-9_]*\)$/\1/p' "$DECLARATIONS/suites.yml"
        (cd "$SCRIPTS_DIR" && printf '%s\n' test_*.sh) | sed 's/\.sh$//'
    } | awk '!seen[$0]++' | while read -r name; do
        [[ ! -x $SCRIPTS_DIR/$name.sh ]] || echo "$name"
    done
}

run_all() {
    local engine=${1:-} worst=0 found=0 code name script
    for name in $(in_order); do
        script=$SCRIPTS_DIR/$name.sh
        if [[ -n $engine ]] && ! grep -qix "engine: *$engine" "$DECLARATIONS/$name.yml"; then
            continue
        fi
        found=1
        code=0
        run_wrapper "$script" || code=$?
        ((code <= 2)) || code=2
        ((code <= worst)) || worst=$code
        [[ -z $stopped ]] || break
    done
    ((found)) || fail "run-all: no test case has the engine ${engine:-asked for}"
    [[ -z $stopped ]] || worst=2
    exit "$worst"
}

case ${1:-} in
    run-single)
        (($# >= 2)) || usage
        name=${2%.sh}
        [[ $name =~ ^[A-Za-z0-9_]+$ && -x $SCRIPTS_DIR/$name.sh && $name == test_* ]] ||
            fail "run-single: there is no test case $2; there are: $(cd "$SCRIPTS_DIR" && echo test_*.sh)"
        exec "$SCRIPTS_DIR/$name.sh" "${@:3}"
        ;;
    run-all)
        (($# <= 2)) || usage
        [[ ${2:-x} =~ ^[A-Za-z0-9_]+$ ]] || usage
        run_all "${2:-}"
        ;;
    *) usage ;;
esac
