#!/usr/bin/env bash
# Runs a command in an environment with mmsn and all it needs, and makes that environment first
# if it is not there yet:
#
#     bash tools/with_env.sh python -m pytest
#
# MMSN_STACK=openmmlab uses the last OpenMMLab releases, in .venv-openmmlab, instead of the
# maintained forks in .venv. PYTHON=python3.12 chooses the interpreter for a new environment.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
stack=${MMSN_STACK:-onedl}
case $stack in
    onedl) env_dir=$root/.venv extra_pins=() ;;
    # mmengine 0.10.7 imports pkg_resources, gone from setuptools 82 on; torch needs 77.0.3
    openmmlab) env_dir=$root/.venv-openmmlab extra_pins=("setuptools>=77.0.3,<82") ;;
    *)
        echo "with_env: MMSN_STACK is '$stack'; use onedl (default) or openmmlab" >&2
        exit 2
        ;;
esac

say() { echo "with_env: $*" >&2; }

# Environments cannot be moved, so the place is part of what must not have changed.
state=$({ echo "$root" && cat "$root"/{pyproject.toml,setup.py,tools/with_env.sh}; } | cksum)
stamp=$env_dir/mmsn-ready

is_ready() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; }

make_env() {
    local python=${PYTHON:-python3} pip
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        say "mmsn needs Python 3.10 or later, $python is $("$python" --version 2>&1);" \
            "set PYTHON=/path/to/python3.11"
        exit 1
    fi
    # Without a stamp an earlier run was cut off and left packages in an unknown state.
    if [ ! -f "$stamp" ]; then
        rm -rf "$env_dir"
        say "creating $env_dir with $("$python" --version 2>&1)"
        "$python" -m venv "$env_dir"
    fi
    rm -f "$stamp"
    pip=("$env_dir/bin/python" -m pip --disable-pip-version-check install --quiet)
    say "1/2 installing PyTorch (a few minutes on the first run)"
    # By exact name first: otherwise another package's loose requirement decides the version.
    "${pip[@]}" torch==2.13.0 torchvision==0.28.0 ${extra_pins[@]+"${extra_pins[@]}"}
    say "2/2 installing mmsn and the $stack packages"
    "${pip[@]}" -e "$root[$stack,test,lint]"
    echo "$state" > "$stamp"
    say "ready"
}

if ! is_ready; then
    # One at a time: a second call waits here, then finds the environment ready.
    if command -v flock > /dev/null; then
        exec 9> "$env_dir.lock"
        flock 9
    fi
    is_ready || make_env
    exec 9>&-
fi

[ $# -gt 0 ] || exit 0
export VIRTUAL_ENV=$env_dir PATH=$env_dir/bin:$PATH
unset PYTHONHOME
exec "$@"
