#!/usr/bin/env bash
#
# Every migration scenario, between every pair of backends. Starts PostgreSQL and S3 for itself
# unless PLIKD_TEST_POSTGRES and PLIKD_TEST_S3 name running ones.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --bins --examples

if [[ -n ${PLIKD_TEST_POSTGRES:-} && -n ${PLIKD_TEST_S3:-} ]]; then
    exec testing/migrate/run.sh services
fi
exec testing/services.sh run -- testing/migrate/run.sh services
