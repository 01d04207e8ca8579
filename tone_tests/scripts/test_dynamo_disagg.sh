#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# tone-cli rewrites these lines. What is empty is taken from the environment.
LOCAL_IP=
REMOTE_IP=
ARTIFACT_ID=
GIT_REPO=
test_case_name="test_dynamo_disagg"
TEST_TYPE="double"
export LOCAL_IP REMOTE_IP ARTIFACT_ID GIT_REPO test_case_name TEST_TYPE

run_case "$@"
