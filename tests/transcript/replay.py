#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""replay.py FILE [FROM=TO...] - does a shell still answer as a transcript in a page says?

The transcript is the fenced block between `<!-- transcript -->` and `<!-- end of transcript -->`. A
line `$ COMMAND` is typed into one shell, with the `> ` lines behind it that go on with it; what
follows up to the next `$ ` is what it answers, stdout and stderr together. FROM=TO replaces paths of
the page by those of the test in what is typed, and back in what is answered.

What varies is compared as what it is: a ULID has to be the same one wherever the transcript has the
same one (and is typed as the one that was answered), times, ages, sizes, digests and numbers with a
unit only have to be there. `ls` may show its names in columns. Everything else is compared as it is.

Prints the answers that differ, and a last line that counts; exit status 1 if any does.
"""
import os
import re
import select
import subprocess
import sys
import time

PATIENCE = 60  # seconds, for a command that hangs
ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
VARYING = [
    # The screen's first line; a long path of the configuration is cut there.
    (re.compile(r"^keepfs [\d.]+ .* up .*$", re.M), "<what runs since when>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?\b"), "<time>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|min|h|d|mo|y|B|[kKMGT]i?B|%)(/s)?(?!\w)"), "<amount>"),
    (re.compile(r"\b(pid|uid:|content_bytes|stored_bytes) ?\d+"), r"\1 <number>"),
    (re.compile(r"(?<=^bash: )line \d+: ", re.M), ""),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" +$", re.M), ""),
]


def read_transcript(path):
    """[(command, [answered line...])...]"""
    text = open(path, encoding="utf-8").read()
    block = re.search(r"<!-- transcript -->\s*```\w*\n(.*?)^```\s*<!-- end of transcript -->", text, re.S | re.M)
    if not block:
        sys.exit(f"{path} has no transcript")
    steps = []
    for line in block[1].splitlines():
        if line.startswith("$ "):
            steps.append([line[2:], []])
        elif re.match(">( |$)", line) and not steps[-1][1]:
            steps[-1][0] += "\n" + line[2:]
        else:
            steps[-1][1].append(line)
    return steps


class Shell:
    END = "end of answer 7d1f"

    def __init__(self):
        self.process = subprocess.Popen(["bash", "--norc", "--noprofile"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.fd = self.process.stdout.fileno()

    def type(self, command):
        """The lines that it answers."""
        self.process.stdin.write(f"{command}\necho; echo '{self.END}'\n".encode())
        self.process.stdin.flush()
        got, deadline = b"", time.monotonic() + PATIENCE
        end = f"\n{self.END}\n".encode()
        while not got.endswith(end):
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                sys.exit(f"{command}\nhangs, after:\n{got.decode()}")
            piece = os.read(self.fd, 65536)
            if not piece:
                sys.exit(f"{command}\nended the shell, after:\n{got.decode()}")
            got += piece
        return got[:-len(end)].decode().removesuffix("\n").split("\n") if got != end else []

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Names:
    """The ULIDs of the transcript and those of this run, paired in the order in which they come."""

    def __init__(self):
        self.real, self.told = {}, {}

    def pair(self, told, real):
        for t, r in zip(ULID.findall(told), ULID.findall(real)):
            if t not in self.real and r not in self.told:
                self.real[t], self.told[r] = r, t

    def typed(self, text):
        return ULID.sub(lambda m: self.real.get(m[0], m[0]), text)

    def answered(self, text):
        return ULID.sub(lambda m: self.told.get(m[0], m[0]), text)


def comparable(command, lines):
    text = "\n".join(lines)
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    if re.match(r"ls( -[aA1U]+)?( [\w/.-]+)*$", command):
        return sorted(text.split())
    return text.split("\n")


def main():
    paths = [p.split("=", 1) for p in sys.argv[2:]]
    steps, names, shell, different = read_transcript(sys.argv[1]), Names(), Shell(), 0
    for command, told in steps:
        typed = names.typed(command)
        for old, new in paths:
            typed = typed.replace(old, new)
        real = "\n".join(shell.type(typed))
        for old, new in paths:
            real = real.replace(new, old)
        names.pair("\n".join(told), real)
        real = names.answered(real).split("\n")
        if comparable(command, real) != comparable(command, told or [""]):
            different += 1
            print(f"$ {command}", "the transcript has", *told, "and the shell answers", *real, "", sep="\n")
    shell.close()
    print(f"{len(steps)} commands, {different} different")
    sys.exit(1 if different or not steps else 0)


main()
