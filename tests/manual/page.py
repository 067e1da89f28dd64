# SPDX-License-Identifier: MIT
"""page.py - a man page in mdoc as a list of its items."""


class Page:
    """Items of a page: (section, names, rest of the .It line, text up to the next item)."""

    def __init__(self, path, macro):
        self.path = path
        self.items = []
        section, item = "", None
        for line in open(path, encoding="ascii"):
            line = line.rstrip("\n")
            if line.startswith((".Ss ", ".Sh ")):
                section, item = line[4:], None
            elif line.startswith(f".It {macro} "):
                words = line.split()[2:]
                stop = min((words.index(w) for w in ("No", "Pq") if w in words), default=len(words))
                names = [w for w in words[:stop] if w not in (",", macro)]
                item = [section, names, " ".join(words[stop:]), ""]
                self.items.append(item)
            elif line.startswith(".El"):
                item = None
            elif item and not line.startswith(".Bl"):
                item[3] += line + "\n"

    def find(self, section, name):
        """All items of that name."""
        return [i for i in self.items if i[0] == section and name in i[1]]
