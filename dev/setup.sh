#!/bin/sh
# Makes .venv ready: the one thing that every make target needs. No root, no container, safe to run at any time.
#
#   sh dev/setup.sh                          find a Python >= 3.12 and install requirements-dev.txt into .venv
#   PYTHON=/path/to/python sh dev/setup.sh   use that one
#
# It does nothing when nothing has changed: .venv/.stamp holds the checksums of the requirement files and the
# interpreter's version. .venv/.unfinished exists while an installation runs; where one was interrupted, pip may take a
# half-copied package for an installed one, so the next start builds the environment anew.

set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python

say() { printf 'setup: %s\n' "$*"; }

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# Whether this command runs (a version manager's shim may exist and fail) and is new enough.
runs() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' </dev/null >/dev/null 2>&1
}

version_of() {
    "$1" -c 'import platform; print(platform.python_version())' </dev/null 2>/dev/null
}

# Every Python that might be here, one a line, the version that Vercel runs first.
candidates() {
    [ -z "${PYTHON:-}" ] || { printf '%s\n' "$PYTHON"; return 0; }
    pyenv_versions=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
    for minor in 12 13 14; do
        printf '%s\n' "python3.$minor"
        command -v uv >/dev/null 2>&1 && uv python find --no-project --no-python-downloads "3.$minor" 2>/dev/null || :
        ls -d "$pyenv_versions/3.$minor".*/bin/python 2>/dev/null || :
    done
    printf '%s\n' python3 python
}

find_python() {
    candidates | while IFS= read -r candidate; do
        if runs "$candidate"; then
            printf '%s\n' "$candidate"
            break
        fi
    done
}

# Every command that was tried and what came of it, for the message when none will do.
tried() {
    candidates | awk '!seen[$0]++' | while IFS= read -r candidate; do
        if path=$(command -v "$candidate" 2>/dev/null); then
            printf '  %s: %s\n' "$path" "$(version_of "$candidate" || echo 'does not run')"
        else
            printf '  %s: not found\n' "$candidate"
        fi
    done
}

create_environment() {
    base=$(find_python)
    if [ -z "$base" ]; then
        die "Breakwater needs Python 3.12 or newer, and none was found. Tried:
$(tried)" \
            "Install one (uv python install 3.12; pyenv install 3.12; or your system's package), or name one: PYTHON=/path/to/python make"
    fi
    say "creating .venv with Python $(version_of "$base") ($base)"
    rm -rf .venv
    mkdir .venv
    : >.venv/.unfinished
    "$base" -m venv .venv >.venv/.log 2>&1 && return
    # Debian splits ensurepip off into a package of its own; an environment without pip can be filled from outside.
    if "$base" -m venv --without-pip .venv >>.venv/.log 2>&1; then
        pip_from_outside "$base" && return
    fi
    cat .venv/.log >&2
    die "Python's venv module does not work here. On Debian or Ubuntu: apt install python3.12-venv (the same version as" \
        "the Python above); or install uv, https://docs.astral.sh/uv/, and start again."
}

# Put pip into a .venv that has none: with uv, or with the base interpreter's own pip.
pip_from_outside() {
    if command -v uv >/dev/null 2>&1; then
        uv pip install --quiet --python "$python" pip >>.venv/.log 2>&1 && return
    fi
    "$1" -m pip --python "$python" install --quiet pip >>.venv/.log 2>&1
}

if [ -e .venv/.unfinished ]; then
    say "an earlier installation was interrupted: starting over"
    create_environment
elif ! runs "$python" || ! "$python" -c 'import pip' 2>/dev/null; then
    create_environment
fi

stamp=$(cksum requirements.txt requirements-dev.txt && "$python" -c 'import sys; print(sys.version, sys.base_prefix)')
if [ "$(cat .venv/.stamp 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

: >.venv/.unfinished
rm -f .venv/.stamp
say "installing $(grep -c '^[a-z]' requirements-dev.txt) packages (about a minute the first time)"
"$python" -m pip install --quiet --no-input --disable-pip-version-check -r requirements-dev.txt ||
    die "pip could not install requirements-dev.txt, see above; run it again when that is mended"
"$python" -m pip check --disable-pip-version-check >.venv/.log 2>&1 ||
    { cat .venv/.log >&2; die "the installed packages do not fit together, see above"; }
printf '%s\n' "$stamp" >.venv/.stamp
rm -f .venv/.unfinished .venv/.log
say "ready: $("$python" --version)"
