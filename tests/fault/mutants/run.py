#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py [NAME...] - puts one deliberate fault at a time into keepfs; a test has to notice each.

A fault is a file NAME.patch beside this script: a sentence that says what it breaks, lines
`# caught-by: TEST` in the order in which to try them, and a unified diff against one file of src/.
TEST is a unit test (archive/test_publish), a case (cases/ctl.bats) or a harness of this room
(fault/powercut).

The tree is copied, built, and every test named is run once without a fault: one that fails there
proves nothing, is a failure and is left out. Then each patch is applied, what its tests need is
built, and they run until one fails. A test that hangs has noticed as well; one that is skipped has
not. A patch that does not apply or does not build fails, like a fault that nothing catches.

Ends with "N passed, N failed, N skipped". Without root the faults that only a skipped test could
have caught are skipped.
"""
import collections
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parents[2]
COPIED = ("meson.build", "README.md", "include", "src", "tests", "examples")
PATIENCE = 300  # seconds for one test
SKIPPED = 77

Mutant = collections.namedtuple("Mutant", "name patch tests")


def read_mutant(patch):
    text = patch.read_text()
    tests = re.findall(r"^# caught-by: (\S+)$", text, re.M)
    files = re.findall(r"^\+\+\+ b/(\S+)", text, re.M)
    if not tests or len(files) != 1 or not files[0].startswith("src/"):
        sys.exit(f"{patch}: it needs `# caught-by:` lines and a diff of one file of src/")
    return Mutant(patch.stem, patch, tests)


class Tree:
    """A copy of the sources and its build."""

    def __init__(self, place):
        self.source, self.build = place / "source", place / "build"
        self.source.mkdir()
        for name in COPIED:
            if (TREE / name).is_dir():
                shutil.copytree(TREE / name, self.source / name, symlinks=True)
            else:
                shutil.copy2(TREE / name, self.source / name)
        self.scratch = place / "tmp"
        self.scratch.mkdir()
        subprocess.run(["meson", "setup", str(self.build), str(self.source)], check=True,
                       stdout=subprocess.DEVNULL)

    def patch(self, mutant, *options):
        command = ["patch", "-p1", "--batch", "--silent", "--no-backup-if-mismatch",
                   "--reject-file=-", "--directory", str(self.source), "--input",
                   str(mutant.patch), *options]
        return subprocess.run(command, capture_output=True, text=True)

    def make(self, test):
        """Builds what a test runs; the compiler's words, or None if all went well."""
        target = "keepfs" if is_script(test) else f"tests/{test.replace('/', '-')}"
        done = subprocess.run(["ninja", "-C", str(self.build), target],
                              capture_output=True, text=True)
        return None if done.returncode == 0 else done.stdout

    def command(self, test):
        if test.startswith("cases/"):
            return ["bats", "--print-output-on-failure", str(self.source / "tests" / test)]
        if test.startswith("fault/"):
            return [sys.executable, "-B", str(self.source / "tests" / f"{test}.py")]
        return [str(self.build / f"tests/{test.replace('/', '-')}")]

    def run(self, test):
        """The test's exit status and output; of one that hangs, the status is that of its end."""
        environ = {**os.environ, "KEEPFS": str(self.build / "keepfs"), "TMPDIR": str(self.scratch)}
        process = subprocess.Popen(self.command(test), cwd=self.source, env=environ, text=True,
                                   errors="replace", start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        try:
            return process.communicate(timeout=PATIENCE)[0], process.returncode
        except subprocess.TimeoutExpired:
            return "it hung", -signal.SIGKILL
        finally:
            self.end(process)

    def end(self, process):
        """Ends the test with all that it started, and takes down a mount that it left."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            if line.split()[1].startswith(f"{self.scratch}/"):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)


def is_script(test):
    return test.startswith(("cases/", "fault/"))


def judge_unharmed(tree, test):
    """What a test says without a fault: passed, failed or skipped; and its output."""
    words = tree.make(test)
    if words:
        return "failed", words
    output, status = tree.run(test)
    if status == SKIPPED or (status == 0 and re.search(r"^ok .*# skip", output, re.M)):
        return "skipped", output
    return "failed" if status else "passed", output


def check_unharmed(tree, tests):
    """The tests by what they say without a fault. All but the skipped ones have to pass."""
    by_word = collections.defaultdict(set)
    for test in tests:
        word, output = judge_unharmed(tree, test)
        by_word[word].add(test)
        if word == "failed":
            print(f"{output}\n{test} fails without a fault, so it is left out", flush=True)
    return by_word


def try_mutant(tree, mutant, unharmed):
    """A word, passed, failed or skipped, and what to say."""
    for test in mutant.tests:
        if test in unharmed["failed"]:
            continue
        words = tree.make(test)
        if words:
            return "failed", f"does not build:\n{words}"
        output, status = tree.run(test)
        if status not in (0, SKIPPED):
            return "passed", f"caught by {test}" + (", which hung" if output == "it hung" else "")
    if unharmed["skipped"].intersection(mutant.tests):
        return "skipped", "not caught by the tests that can run here"
    return "failed", "SURVIVED"


def with_mutant(tree, mutant, unharmed):
    applied = tree.patch(mutant)
    if applied.returncode != 0:
        return "failed", f"does not apply:\n{applied.stdout}{applied.stderr}"
    verdict = try_mutant(tree, mutant, unharmed)
    tree.patch(mutant, "--reverse")
    return verdict


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = sys.argv[1:]
    mutants = [read_mutant(p) for p in sorted(HERE.glob("*.patch"))
               if not chosen or p.stem in chosen]
    if not mutants or (chosen and len(mutants) != len(set(chosen))):
        sys.exit("there is no such mutant")
    counts = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="keepfs-mutants.") as place:
        os.chmod(place, 0o711)  # cases become other users
        tree = Tree(pathlib.Path(place))
        unharmed = check_unharmed(tree, sorted({t for m in mutants for t in m.tests}))
        counts["failed"] += len(unharmed["failed"])
        for mutant in mutants:
            word, what = with_mutant(tree, mutant, unharmed)
            counts[word] += 1
            print(f"{mutant.name} {what}", flush=True)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
