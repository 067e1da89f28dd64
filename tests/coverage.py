#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""coverage.py BUILD_DIR - what the tests that ran in a build with -Db_coverage=true have covered.

  meson setup DIR -Db_coverage=true --buildtype=debug -Dc_args=-fprofile-update=atomic
  (run tests, cases and faults in it: the counts of all add up)
  tests/coverage.py DIR

Prints lines and branches of every file of src/ and include/, the lines that are missing of files that
must be whole, and one verdict for each floor. The last line is "N passed, N failed, N skipped"; exit
status 1 if a floor was missed.

What is not counted: the branches of assert(), one of which only a bug can take, and branches that the
compiler puts on lines without code of ours, as the cleanup at a closing brace. Nothing else: no line
of the source is marked. A process that ends by a signal that it does not catch, or by _exit(), leaves
no counts, so that what only such processes reach is shown as not covered.
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOMS = ("librooms.a.p", "libkinds.a.p", "keepfs.p")  # not the tests' own programs

# A backup is lost or invented here if a line is wrong, so every line has to have been run.
WHOLE = (
    "src/archive/publish.c",  # and deletion, the archive's side of it
    "src/destination/local.c",  # deletion, the place's side of it
    "src/service/recovery.c",
    "src/archive/envelope.c",
    "src/archive/envelope_read.c",
    "src/archive/envelope_write.c",
    "src/archive/manifest.c",
    "src/archive/manifest_mac.c",
    "src/archive/manifest_read.c",
    "src/archive/manifest_write.c",
)
BRANCHES = 90  # percent, over all files


def measure(build):
    """(summary, detail) as gcovr gives them."""
    with tempfile.TemporaryDirectory() as out:
        summary, detail = os.path.join(out, "summary"), os.path.join(out, "detail")
        subprocess.run(
            ["gcovr", "--root", ROOT, "--filter", "src/", "--filter", "include/",
             "--exclude-throw-branches", "--exclude-unreachable-branches",
             "--exclude-branches-by-pattern", r"\s*assert\(.*",
             "--json-summary", summary, "--json", detail, "-j", "2",
             *(os.path.join(build, room) for room in ROOMS)], cwd=ROOT, check=True)
        with open(summary) as s, open(detail) as d:
            return json.load(s), json.load(d)


def ranges(numbers):
    """1, 2, 3, 7 -> "1-3 7" """
    runs = []
    for n in sorted(numbers):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def row(name, f, prefix=""):
    def share(what):
        covered, total = f[f"{prefix}{what}_covered"], f[f"{prefix}{what}_total"]
        percent = 100 * covered / total if total else 100
        return f"{covered:5} of {total:5} {int(percent * 10) / 10:5.1f}%"  # 99.98 is not 100

    print(f"{name:34} lines {share('line')}   branches {share('branch')}")


def verdict(good, text):
    print(f"{'ok' if good else 'FAILED'} {text}")
    return good


def judge(summary, detail):
    """The verdicts, one for each floor."""
    lines = {f["file"]: {n["line_number"]: n["count"] for n in f["lines"] if not n.get("gcovr/noncode")}
             for f in detail["files"]}
    for name in WHOLE:
        missing = [n for n, count in lines.get(name, {}).items() if count == 0]
        if not lines.get(name):
            yield verdict(False, f"{name}: there are no counts of it")
        else:
            yield verdict(not missing, f"{name}: every line" +
                          (f" but {ranges(missing)}" if missing else ""))
    percent = 100 * summary["branch_covered"] / summary["branch_total"]
    yield verdict(percent >= BRANCHES, f"branches overall: {percent:.2f}% of at least {BRANCHES}%")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: coverage.py BUILD_DIR")
    summary, detail = measure(sys.argv[1])
    if not summary["branch_total"]:
        sys.exit(f"{sys.argv[1]} is no build with -Db_coverage=true")
    for f in sorted(summary["files"], key=lambda f: f["filename"]):
        row(f["filename"], f)
    row("all", summary)
    verdicts = list(judge(summary, detail))
    print(f"{sum(verdicts)} passed, {verdicts.count(False)} failed, 0 skipped")
    sys.exit(0 if all(verdicts) else 1)


main()
