#!/usr/bin/env bash
# Makes .venv hold what requirements/lock.txt pins, and this project itself, editable. Called by `make setup`.
# Nothing to do, and no network, when the stamp in .venv says that this lock is installed here.
#
#   PYTHON=/path/to/python3.11   the interpreter to use, where it is not found by itself
#   TORCH_INDEX=URL              where torch's CPU build comes from, if pip does not find it where it looks first
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=.venv lock=requirements/lock.txt
readonly stamp=$venv/installed unfinished=$venv/unfinished log=$venv/setup.log errors=$venv/setup-errors.log
readonly torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
readonly venv_gb=6 temporary_gb=2 # 4.8 GB installed, 1 GB of wheels on their way

fail() {
  printf 'setup: %s\n' "$1" >&2
  exit 1
}

# What is wanted in .venv: these pins, and scripts that hold this path.
wanted() { { cat "$lock" && pwd; } | sha256sum | cut -d ' ' -f 1; }

find_python() {
  local candidate found=''
  for candidate in ${PYTHON:-python3.11 python3 python}; do
    if [ "$("$candidate" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null)" = '3 11' ]; then
      printf '%s' "$candidate"
      return
    fi
    [ -n "$found" ] || found=$("$candidate" --version 2>/dev/null) || true
  done
  fail "needs Python 3.11, which the lock is made for; found ${found:-no Python}. Install it, or: make setup PYTHON=/path/to/python3.11"
}

need_space() {
  local free
  free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1000000) }')
  [ "$free" -ge "$2" ] || fail "needs $2 GB on the disk of $1, which has $free GB free; free some space${3:-}"
}

make_venv() {
  local python=$1
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; on Debian and Ubuntu: apt install python3.11-venv"
  rm -rf "$venv"
  need_space "$PWD" "$venv_gb"
  need_space "${TMPDIR:-/tmp}" "$temporary_gb" ', or name another disk in TMPDIR'
  mkdir "$venv"
  touch "$unfinished"
  "$python" -m venv "$venv"
}

# pip with all its chatter in the log; a line now and then shows that it is alive.
pip_install() {
  local pid next=$((SECONDS + 20))
  "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check --no-warn-script-location \
    --root-user-action=ignore --no-deps --no-compile --log "$log" "$@" >/dev/null 2>"$errors" &
  pid=$!
  trap 'kill "$pid"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$next" ]; then
      next=$((next + 20))
      printf 'setup: %d s, %d of %d packages fetched, %d installed\n' $((SECONDS - begun)) \
        "$(grep -cE ' Added .* to build tracker' "$log" || true)" "$(grep -c '==' "$lock")" \
        "$(find "$venv"/lib/python3.11/site-packages -maxdepth 1 -name '*.dist-info' | wc -l)"
    fi
    sleep 0.2
  done
  trap - INT TERM
  wait "$pid"
}

fail_of_pip() {
  local why
  why=$(grep -E 'ERROR|Error' "$errors" | tail -n 1 | sed -E 's/^ *ERROR: *//' || true)
  fail "$1: ${why:-pip failed without a word}. The whole log: $log; then run make setup again"
}

# One set-up at a time in this checkout: the lock is on this script and ends with the process.
if command -v flock >/dev/null; then
  exec 9<scripts/setup.sh
  flock -n 9 || { echo 'setup: waiting for another make that is setting up .venv' && flock 9; }
fi

if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(wanted)" ]; then
  exit 0
fi
[ "$(uname -sm)" = 'Linux x86_64' ] ||
  fail "the lock is made for Linux on x86-64, this is $(uname -sm); install by hand with: pip install -e '.[cpu]'"

readonly begun=$SECONDS
# Half a .venv (set-up interrupted), one of another Python, or a moved checkout: begin again. A .venv of an older lock
# is brought up to date.
if [ -e "$unfinished" ] || [ ! -d "$venv/lib/python3.11" ] || ! head -n 3 "$venv/bin/pip" | grep -qF "$PWD/$venv/bin/"; then
  python=$(find_python)
  make_venv "$python"
fi
touch "$unfinished"
rm -f "$stamp" "$log"

printf 'setup: installing %d packages into %s (about 3 minutes and 5 GB)\n' "$(grep -c '==' "$lock")" "$venv"
torch=$(grep -oE '^torch==[^ ]+' "$lock")
if ! pip_install "$torch"; then
  echo "setup: $torch is not where pip looks first; fetching it from $torch_index"
  pip_install --index-url "$torch_index" "$torch" || fail_of_pip "cannot install $torch"
fi
pip_install -r "$lock" || fail_of_pip 'cannot install the lock'
pip_install --no-build-isolation --editable . || fail_of_pip 'cannot install this project'
# With all cores, where pip would use one; some packages hold templates that are no Python, hence the silence.
"$venv/bin/python" -m compileall -qq -j 0 -x '/tests?/' "$venv/lib/python3.11/site-packages" || true
rm -f "$unfinished"
wanted >"$stamp"
printf 'setup: done in %d s\n' $((SECONDS - begun))
