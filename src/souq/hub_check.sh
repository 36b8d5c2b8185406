#!/bin/bash
# Written by `souq forge init huggingface`; docs/forges.md tells the whole way.
#
# A Job runs this because somebody wrote in a discussion of a hub's repository, or sent a commit to its pull request. It
# is run with a token and a key because of a stranger, so: their files are read as data and never run; rules, evals and
# checks are main's; what a stranger wrote never stands in a command, and of the payload only a number does, as digits.
#
#   WEBHOOK_PAYLOAD   what happened, in JSON (the hub gives it)
#   SOUQ_REPO         org/name on the hub        SOUQ_REMOTE    the model's git repository
#   HF_TOKEN          may write discussions      SOUQ_BOT_KEY   the bot's private ssh key
set -euo pipefail
: "${SOUQ_REPO:?}" "${SOUQ_REMOTE:?}" "${HF_TOKEN:?}" "${SOUQ_BOT_KEY:?}"

NUMBER=$(python3 - <<'PYTHON'
import json, os, re, sys
try:
    payload = json.loads(os.environ["WEBHOOK_PAYLOAD"])
    repo, event = payload["repo"], payload["event"]
    if repo["type"] != "model" or repo["name"] != os.environ["SOUQ_REPO"]:
        sys.exit("not about this repository")
    talk = payload.get("discussion") or {}
    numbers = [talk["num"]] if talk.get("isPullRequest") and talk.get("status") in ("open", "draft") else []
    if event["scope"] == "discussion.comment":
        numbers = []  # nothing that is said changes what is offered; our own comment would call us again
    for moved in payload.get("updatedRefs") or []:
        if moved.get("newSha") and (match := re.fullmatch(r"refs/pr/([1-9][0-9]{0,8})", str(moved["ref"]))):
            numbers.append(int(match[1]))
    print(next((str(n) for n in numbers if type(n) is int and 0 < n < 10**9), ""))
except (KeyError, TypeError, ValueError, AttributeError) as error:
    sys.exit(f"no payload of a hub's webhook: {type(error).__name__}")
PYTHON
)
if [ -z "$NUMBER" ]; then echo "nothing to check"; exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v souq > /dev/null; then
  python3 -m venv "$work/souq"
  "$work/souq/bin/pip" install --quiet --disable-pip-version-check "${SOUQ:-souq[lab,remote]==@VERSION@}"
  export PATH="$work/souq/bin:$PATH"
fi
install -m 600 /dev/null "$work/key"
printf '%s\n' "$SOUQ_BOT_KEY" > "$work/key"
export SOUQ_KEY="$work/key" GIT_CONFIG_GLOBAL="$work/gitconfig"
git config --global user.name souq-bot
git config --global user.email souq-bot@localhost

souq clone --no-tensors "$SOUQ_REMOTE" "$work/model"
cd "$work/model"
souq forge check "$NUMBER" --hub "$SOUQ_REPO" --json > "$work/answer.json" || test $? -eq 3
souq forge comment "$NUMBER" "$work/answer.json" --hub "$SOUQ_REPO" || test $? -eq 3
