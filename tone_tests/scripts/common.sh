# shellcheck shell=bash
# What the wrappers have in common. A wrapper sources this first, then has the lines that tone-cli rewrites, and then
# calls run_case. See README.md beside this folder.
set -euo pipefail

SCRIPTS_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
PROJECT_DIR=$(cd -- "$SCRIPTS_DIR/../.." && pwd)
TONE_TESTS_DIR=${TONE_TESTS_DIR:-$PROJECT_DIR/tone_tests}

# The lines of the wrapper hide what the environment says, so it is remembered here.
declare -A FROM_ENVIRONMENT
for name in LOCAL_IP REMOTE_IP ARTIFACT_ID GIT_REPO test_case_name TEST_TYPE; do
    FROM_ENVIRONMENT[$name]=${!name-}
done

# Write a failed result, whole or not at all: whatever ends this script early, no earlier Pass stays in place.
# shellcheck disable=SC2154 # the wrapper declares test_case_name
write_fail() {
    local folder=$1
    mkdir -p "$folder"
    printf '{"test_case": "%s", "status": "Fail", "timestamp": "%s"}\n' \
        "$test_case_name" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$folder/.test_results.json.$$"
    mv "$folder/.test_results.json.$$" "$folder/test_results.json"
}

# Put the results of the run before where the harness puts them, and keep five.
put_previous_aside() {
    local folder=$TONE_TESTS_DIR/run/$test_case_name kept=$TONE_TESTS_DIR/run/previous/$test_case_name run
    [[ -f $folder/report.json ]] || return 0
    run=$(sed -n 's/^ *"run_id": "\([A-Za-z0-9][A-Za-z0-9_.-]*\)".*/\1/p' "$folder/report.json" | head -n 1)
    mkdir -p "$kept"
    rm -rf "${kept:?}/${run:-unknown}"
    mv "$folder" "$kept/${run:-unknown}"
    find "$kept" -mindepth 1 -maxdepth 1 -print0 | sort -z | head -z -n -5 | xargs -0 -r rm -rf
}

# Run the test case of the wrapper. It does not return: the harness takes this process over, signals go straight to it.
run_case() {
    local name
    for name in "${!FROM_ENVIRONMENT[@]}"; do
        printf -v "$name" '%s' "${!name:-${FROM_ENVIRONMENT[$name]}}"
    done
    export TONE_TESTS_DIR
    if [[ ! $test_case_name =~ ^[A-Za-z0-9_]+$ ]]; then
        echo "error: test_case_name is '$test_case_name' and has to be a test case's name" >&2
        exit 2
    fi
    if [[ -f $PROJECT_DIR/playbooks/vars/$test_case_name.yml ]]; then
        put_previous_aside
        write_fail "$TONE_TESTS_DIR/run/$test_case_name"
        write_fail "$TONE_TESTS_DIR/run/logs/$test_case_name"
    fi
    if [[ ! -x $PROJECT_DIR/.venv/bin/python ]]; then
        make --directory "$PROJECT_DIR" .venv/ready >&2 || {
            echo "error: the harness's environment could not be made; see above, or run make test in $PROJECT_DIR" >&2
            exit 2
        }
    fi
    exec "$PROJECT_DIR/.venv/bin/python" -m pyharness.tone_case "$@"
}
