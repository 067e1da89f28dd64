#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cron.py PRINTER [--cases N | --all] [--seed N] - the next tick of random schedules, found twice.

PRINTER (tests/unit/util/cron_print.c) says what src/util/cron.c thinks. This says it by
brute force and shares nothing with it: a schedule is made together with the sets of values that it
means, so that no text is parsed here; zones are those of Python's zoneinfo; days are tried one by
one, and on a day every minute that the sets have. Rules, in the words of this side:

  a minute of the wall calendar is wanted if its five values are in the sets (one of the two kinds
  of day is enough if neither field begins with a star);
  24 wanted hours: every instant at which a wanted minute begins counts;
  otherwise a wanted minute counts once: at the earlier of its instants if it has two, at the
  moment the clocks were put forward if it has none.

Times are from 2020 to 2040. 10,000 cases by default, --all is 100,000. Prints
"N passed, N failed, 0 skipped"; exit status 1 for a failure.
"""
import random
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

ZONES = ['UTC', 'Europe/Rome', 'America/New_York', 'Australia/Lord_Howe']
UTC = timezone.utc
MINUTE = timedelta(minutes=1)
# No zone of these moves its clocks by more than an hour.
SLACK = timedelta(hours=2)
NAMES = {3: 'jan feb mar apr may jun jul aug sep oct nov dec'.split(),
         4: 'sun mon tue wed thu fri sat'.split()}
LOW = [0, 0, 1, 1, 0]
HIGH = [59, 23, 31, 12, 6]


# ---- a schedule and what it means ----

def spell(rnd, field, value):
    """A value as a number, with zeros, or as a name."""
    if field in NAMES and rnd.random() < 0.3:
        name = NAMES[field][value % 7 if field == 4 else value - 1]
        return rnd.choice([name, name.upper(), name.capitalize()])
    return f'{value:02}' if rnd.random() < 0.1 else str(value)


def item(rnd, field):
    low, high = LOW[field], HIGH[field]
    if field == 1 and rnd.random() < 0.5:
        value = rnd.randint(0, 3)  # where clocks change
        return str(value), {value}
    form = rnd.random()
    step = rnd.randint(1, high if rnd.random() < 0.3 else min(high, 7))
    if form < 0.45:
        value = rnd.randint(low, 7 if field == 4 else high)
        return spell(rnd, field, value), {value}
    if form < 0.7:
        a = rnd.randint(low, high)
        b = rnd.randint(a, 7 if field == 4 else high)
        left = spell(rnd, field, a)
        # as an end `sun` is 7, but of a range from Sunday it would be 0
        right = '7' if field == 4 and (a, b) == (0, 7) else spell(rnd, field, b)
        if rnd.random() < 0.5:
            return f'{left}-{right}', set(range(a, b + 1))
        return f'{left}-{right}/{step}', set(range(a, b + 1, step))
    if form < 0.85:
        a = rnd.randint(low, high)
        return f'{spell(rnd, field, a)}/{step}', set(range(a, high + 1, step))
    star = rnd.choice('*?')
    if form < 0.95:
        return f'{star}/{step}', set(range(low, high + 1, step))
    return star, set(range(low, high + 1))


def field_of(rnd, field, star_share):
    if rnd.random() < star_share:
        text, values = rnd.choice('**?'), set(range(LOW[field], HIGH[field] + 1))
    else:
        items = [item(rnd, field) for _ in range(rnd.choice([1, 1, 1, 2, 3]))]
        text = ','.join(t for t, _ in items)
        values = set().union(*(v for _, v in items))
    if field == 4:
        values = {v % 7 for v in values}
    return text, values, text[0] in '*?'


class Schedule:
    def __init__(self, rnd):
        shares = rnd.choice([(0.5, 0.5, 0.5, 0.5, 0.5), (0.1, 0.6, 0.9, 0.9, 0.9),
                             (0.2, 0, 1, 1, 1),
                             (0.1, 0.2, 0.8, 0.9, 0.8), (0.3, 0.4, 0.3, 0.3, 0.3)])
        fields = [field_of(rnd, i, s) for i, s in enumerate(shares)]
        self.sets = [f[1] for f in fields]
        self.either = not fields[2][2] and not fields[4][2]
        self.zone = rnd.choice(ZONES)
        prefix = rnd.choice(['CRON_TZ=', 'TZ=']) + self.zone
        self.text = rnd.choice([' ', '  ', '\t']).join([prefix] + [f[0] for f in fields])
        self.tz = ZoneInfo(self.zone)
        self.walls = [h * 60 + m for h in sorted(self.sets[1]) for m in sorted(self.sets[0])]

    def possible(self):
        """Has any month such a day at all?"""
        if self.either:
            return True
        longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        return any(d <= longest[m - 1] for m in self.sets[3] for d in self.sets[2])

    def day_wanted(self, day):
        if day.month not in self.sets[3]:
            return False
        by_date, by_week = day.day in self.sets[2], day.isoweekday() % 7 in self.sets[4]
        return (by_date or by_week) if self.either else (by_date and by_week)

    # ---- instants ----

    def instants(self, wall):
        """The UTC times at which the wall clock shows `wall`, in order."""
        found = set()
        for fold in (0, 1):
            at = wall.replace(tzinfo=self.tz, fold=fold).astimezone(UTC)
            if at.astimezone(self.tz).replace(tzinfo=None, fold=0) == wall:
                found.add(at)
        return sorted(found)

    def put_forward(self, wall):
        """The moment at which the clock leapt over `wall`: minute by minute."""
        at = (wall - SLACK).replace(tzinfo=self.tz).astimezone(UTC)
        while at.astimezone(self.tz).replace(tzinfo=None, fold=0) < wall:
            at += MINUTE
        return at

    def ticks(self, wall):
        at = self.instants(wall)
        if len(self.sets[1]) == 24:
            return at
        return at[:1] if at else [self.put_forward(wall)]

    def next(self, after):
        local = after.astimezone(self.tz).replace(tzinfo=None)
        begin = local - SLACK
        best, day = None, begin.date()
        while day < date(2110, 1, 1):
            if self.day_wanted(day):
                midnight = datetime(day.year, day.month, day.day)
                for minutes in self.walls:
                    wall = midnight + MINUTE * minutes
                    if wall < begin:
                        continue
                    if best and wall > best.astimezone(self.tz).replace(tzinfo=None) + SLACK:
                        return best
                    for at in self.ticks(wall):
                        if at > after and (best is None or at < best):
                            best = at
            elif best:
                return best
            day += timedelta(days=1)
        return best


# ---- comparing ----

def changes(zone):
    """The instants at which the clocks of the zone are put forward or back."""
    tz, step, found = ZoneInfo(zone), timedelta(hours=6), []
    at = datetime(2020, 1, 1, tzinfo=UTC)
    while at.year < 2040:
        if at.astimezone(tz).utcoffset() != (at + step).astimezone(tz).utcoffset():
            exact = at
            while at.astimezone(tz).utcoffset() == exact.astimezone(tz).utcoffset():
                exact += MINUTE
            found.append(exact)
        at += step
    return found


def moment(rnd, near):
    """Any time, or one within hours or a day and a half of a change."""
    reach = rnd.choice([0, 5000, 5000, 130000])
    if near and reach:
        at = rnd.choice(near) + timedelta(seconds=rnd.randint(-reach, reach))
        return at + rnd.choice([timedelta(0), timedelta(milliseconds=rnd.randint(0, 999))])
    span = datetime(2040, 1, 1, tzinfo=UTC) - datetime(2020, 1, 1, tzinfo=UTC)
    at = datetime(2020, 1, 1, tzinfo=UTC) + span * rnd.random()
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def to_ms(at):
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def main():
    arguments = dict(zip(sys.argv[2:], sys.argv[3:]))
    seed = int(arguments.get('--seed', 20))
    count = int(arguments.get('--cases', 100000 if '--all' in sys.argv else 10000))
    rnd = random.Random(seed)
    near = {zone: changes(zone) for zone in ZONES}
    cases = []
    for _ in range(count):
        schedule = Schedule(rnd)
        after = moment(rnd, near[schedule.zone])
        if rnd.random() < 0.3 and schedule.possible():
            after = schedule.next(after) or after  # at a tick: the next is another
        cases.append((schedule, after))
    lines = ''.join(f'{s.text}\t{to_ms(after)}\n' for s, after in cases)
    answers = subprocess.run([sys.argv[1]], input=lines, stdout=subprocess.PIPE, text=True,
                             check=True).stdout.splitlines()
    failed = abs(len(answers) - len(cases))
    for (schedule, after), answer in zip(cases, answers):
        if schedule.possible():
            best = schedule.next(after)
            right = str(to_ms(best)) if best else 'never'
        else:
            right = 'refused: '
        if answer != right and not (right == 'refused: ' and answer.startswith(right)):
            failed += 1
            print(f'{schedule.text!r} after {after}: {answer}, not {right}')
    print(f'{len(cases) - failed} passed, {failed} failed, 0 skipped')
    return 1 if failed or not cases else 0


sys.exit(main())
