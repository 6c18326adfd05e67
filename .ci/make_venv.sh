#!/bin/sh
# Make the virtual environment that builds and tests the book: make_venv.sh FOLDER
# PYTHON names the interpreter; without it the newest of the supported ones is looked for.
set -eu
venv=$1
wanted="Python 3.11, 3.12 or 3.13"

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
supported() { case "$(version "$1")" in 3.11 | 3.12 | 3.13) return 0 ;; esac; return 1; }

python=
found=
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if supported "$candidate"; then
        python=$candidate
        break
    fi
    this=$(version "$candidate")
    [ -z "$this" ] || found="$found${found:+, }$candidate is Python $this"
done
if [ -z "$python" ]; then
    echo "This book needs $wanted; found: ${found:-none${PYTHON:+ ($PYTHON does not run)}}. Choose one with 'make PYTHON=/path/to/python ...'." >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$python has no venv module; install it (Debian and Ubuntu: apt install python$(version "$python")-venv)." >&2
    exit 1
fi

if ! supported "$venv/bin/python"; then
    echo "Making $venv with $python (Python $(version "$python")); the first time takes a minute or two."
    "$python" -m venv --clear "$venv"
fi
# pip shows errors only.
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --requirement requirements.txt
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
