/* SPDX-License-Identifier: MIT */
/*
 * test_zone.c - zones against libc's and against files made here, whole and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/buf.h"
#include "util/zone.h"
#include "util/zone_rule.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- files made here ---- */

static void put(struct buf *b, uint64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--)
        buf_add(b, &(char){(char)(value >> (8 * i))}, 1);
}

static void put_header(struct buf *b, char version, uint32_t leaps, uint32_t times, uint32_t types)
{
    const uint32_t chars = 4;

    buf_add(b, "TZif", 4);
    buf_add(b, &version, 1);
    for (int i = 0; i < 15; i++)
        put(b, 0, 1);
    put(b, 0, 4);
    put(b, 0, 4);
    put(b, leaps, 4);
    put(b, times, 4);
    put(b, types, 4);
    put(b, chars, 4);
}

/* Two types, 1 h and 2 h east; the changes are at `times`, to the second type first. */
static void put_block(struct buf *b, const int64_t *times, uint32_t count, int width)
{
    for (uint32_t i = 0; i < count; i++)
        put(b, (uint64_t)times[i], width);
    for (uint32_t i = 0; i < count; i++)
        put(b, (i + 1) % 2, 1);
    for (int type = 0; type < 2; type++) {
        put(b, (uint64_t)(3600 * (type + 1)), 4);
        put(b, (uint64_t)type, 1);
        put(b, 0, 1);
    }
    buf_add(b, "ABC", 4);
}

static const int64_t two_times[] = {1000000, 2000000};

/* Version 2 with an empty first block. */
static struct buf file(const char *footer)
{
    struct buf b = BUF_INIT;

    put_header(&b, '2', 0, 0, 2);
    put_block(&b, NULL, 0, 4);
    put_header(&b, '2', 0, 2, 2);
    put_block(&b, two_times, 2, 8);
    buf_addf(&b, "\n%s\n", footer);
    return b;
}

/* A copy of exactly that size, so that a sanitizer sees every look past the end. */
static int parse(const void *data, size_t len, struct zone **out, struct error *err)
{
    char *copy = xmalloc(len ? len : 1);

    memcpy(copy, data, len);
    int result = zone_parse(copy, len, out, err);
    free(copy);
    return result;
}

static struct zone *must_parse(struct buf b)
{
    struct zone *z = NULL;
    struct error err = {0};

    if (parse(b.data, b.len, &z, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(err.code, ERR_NONE);
    buf_release(&b);
    return z;
}

static void must_refuse(struct buf b, const char *word)
{
    struct zone *z;
    struct error err = {0};

    assert_int_equal(parse(b.data, b.len, &z, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.message, word))
        fail_msg("'%s' is not in: %s", word, err.message);
    buf_release(&b);
}

static void expect_span(const struct zone *z, int64_t at, int64_t start, int64_t end,
                        int32_t offset)
{
    struct zone_span span = zone_span_at(z, at);

    if (span.start != start || span.end != end || span.offset != offset)
        fail_msg("at %lld: %lld to %lld, %d", (long long)at, (long long)span.start,
                 (long long)span.end, span.offset);
    assert_int_equal(zone_offset(z, at), offset);
}

static void a_version_1_file_is_its_table(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    put_header(&b, '\0', 0, 2, 2);
    put_block(&b, two_times, 2, 4);
    struct zone *z = must_parse(b);
    expect_span(z, 999999, INT64_MIN, 1000000, 3600);
    expect_span(z, 1000000, 1000000, 2000000, 7200);
    expect_span(z, 1999999, 1000000, 2000000, 7200);
    expect_span(z, 2000000, 2000000, INT64_MAX, 3600);
    expect_span(z, INT64_MAX, 2000000, INT64_MAX, 3600);
    expect_span(z, INT64_MIN, INT64_MIN, 1000000, 3600);
    zone_free(z);
}

static void a_version_2_file_is_its_second_block(void **state)
{
    struct buf b = BUF_INIT;
    static const int64_t wrong[] = {5}, late[] = {-(INT64_C(1) << 40), INT64_C(1) << 40};

    (void)state;
    put_header(&b, '2', 0, 1, 2);
    put_block(&b, wrong, 1, 4);
    put_header(&b, '2', 0, 2, 2);
    put_block(&b, late, 2, 8);
    buf_adds(&b, "\n\n");
    struct zone *z = must_parse(b);
    expect_span(z, 5, late[0], late[1], 7200);
    zone_free(z);
}

static void the_footer_holds_from_the_last_change_on(void **state)
{
    (void)state;
    struct zone *z = must_parse(file("CET-3"));
    expect_span(z, 1999999, 1000000, 2000000, 7200);
    expect_span(z, 2000000, 2000000, INT64_MAX, 3 * 3600);
    zone_free(z);

    z = must_parse(file("CET-1CEST,M3.5.0,M10.5.0/3"));
    expect_span(z, 2000000, 2000000, 7520400 /* 1970-03-29 01:00 */, 3600);
    expect_span(z, 7520400, 7520400, 25664400 /* 1970-10-25 01:00 */, 7200);
    expect_span(z, 2531955600, 2531955600, 2550704400, 7200); /* 2050 */
    zone_free(z);
}

static void times_out_of_all_years_are_taken_as_the_nearest_within(void **state)
{
    const int64_t last = 253402300799; /* of 9999 */

    (void)state;
    struct zone *z = must_parse(file("CET-1CEST,M3.5.0,M10.5.0/3"));
    struct zone_span span = zone_span_at(z, last);
    assert_true(span.start < last && last < span.end);
    expect_span(z, INT64_MAX, span.start, span.end, 3600);
    expect_span(z, last + 200 * 86400, span.start, span.end, 3600);
    expect_span(z, INT64_MIN, INT64_MIN, 1000000, 3600);
    zone_free(z);
}

static void an_empty_table_leaves_all_time_to_the_footer(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    put_header(&b, '2', 0, 0, 2);
    put_block(&b, NULL, 0, 4);
    put_header(&b, '2', 0, 0, 2);
    put_block(&b, NULL, 0, 8);
    buf_adds(&b, "\nEST5\n");
    struct zone *z = must_parse(b);
    expect_span(z, 0, INT64_MIN, INT64_MAX, -5 * 3600);
    zone_free(z);
}

static void a_change_of_the_name_alone_is_no_change(void **state)
{
    struct buf b = BUF_INIT;
    static const int64_t times[] = {10, 20, 30};

    (void)state;
    put_header(&b, '\0', 0, 3, 2);
    put_block(&b, times, 3, 4);
    b.data[44 + 12 + 1] = 1; /* the second change is to the type that is */
    struct zone *z = must_parse(b);
    expect_span(z, 15, 10, INT64_MAX, 7200);
    zone_free(z);
}

/* ---- damage ---- */

enum { SECOND = 44 + 12 + 4, TIMES = SECOND + 44, INDEXES = TIMES + 16, TYPES = INDEXES + 2 };

static struct buf with_byte(size_t at, int value)
{
    struct buf b = file("CET-1");

    b.data[at] = (char)value;
    return b;
}

static void what_is_out_of_range_is_refused(void **state)
{
    (void)state;
    must_refuse(with_byte(0, 'X'), "TZif");
    must_refuse(with_byte(4, '5'), "version");
    must_refuse(with_byte(4, '1'), "version");
    must_refuse(with_byte(SECOND, 'X'), "TZif");
    must_refuse(with_byte(SECOND + 23, 1), "counts");
    must_refuse(with_byte(SECOND + 27, 1), "counts");
    must_refuse(with_byte(SECOND + 31, 1), "leap seconds");
    must_refuse(with_byte(SECOND + 39, 0), "types");
    must_refuse(with_byte(SECOND + 38, 2), "types");
    must_refuse(with_byte(SECOND + 43, 0), "types");
    must_refuse(with_byte(SECOND + 32, 0xff), "short");
    must_refuse(with_byte(SECOND + 36 - 32 + 36, 0x7f), "short");
    must_refuse(with_byte(32, 0xff), "short"); /* in the first block */
    must_refuse(with_byte(INDEXES, 2), "type that is not there");
    must_refuse(with_byte(TIMES, 1), "order");
    must_refuse(with_byte(TYPES, 1), "type is out of range");
    must_refuse(with_byte(TYPES + 4, 2), "type is out of range");
    must_refuse(with_byte(TYPES + 5, 4), "type is out of range");
    must_refuse(file("EST5EDT"), "rule");
    must_refuse(file("no rule"), "rule");
    struct buf nul = file("CET-1xx");
    nul.data[nul.len - 3] = '\0';
    must_refuse(nul, "rule");
}

static void a_file_cut_short_anywhere_is_refused(void **state)
{
    struct buf b = file("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    for (size_t len = 0; len < b.len; len++) {
        struct buf part = BUF_INIT;
        buf_add(&part, b.data, len);
        must_refuse(part, "");
    }
    buf_release(&b);
}

static void any_altered_byte_is_survived(void **state)
{
    struct buf b = file("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    for (size_t at = 0; at < b.len; at++)
        for (int value = 0; value < 256; value++) {
            struct zone *z;
            struct error err;
            char was = b.data[at];
            b.data[at] = (char)value;
            if (parse(b.data, b.len, &z, &err) == 0) {
                struct zone_span span = zone_span_at(z, 1800000);
                assert_true(span.start <= 1800000 && 1800000 < span.end);
                zone_free(z);
            }
            b.data[at] = was;
        }
    buf_release(&b);
}

/* ---- rules ---- */

static void rules_are_read_as_posix_writes_them(void **state)
{
    static const char *const good[] = {
        "UTC0",
        "<-03>3",
        "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
        "CET-1CEST-2,J1,J365",
        "XXX-24:59:59",
        "EST+5EDT,0/0,J365/25",
        "EST5EDT,M3.2.0/-167,M11.1.0/167:59:59",
    };
    static const char *const bad[] = {
        "",
        "UTC",
        "UT0",
        "<UT>0",
        "<UTC0",
        "U1C0",
        "<U C>0",
        "UTC25",
        "UTC0:60",
        "UTC0:0:60",
        "UTC0 ",
        "UTC0,",
        "EST5EDT",
        "EST5EDT,M3.2.0",
        "EST5EDT,M3.2.0,",
        "EST5EDT,M3.2.0,M11.1.0,",
        "EST5EDT,M0.2.0,M11.1.0",
        "EST5EDT,M13.2.0,M11.1.0",
        "EST5EDT,M3.0.0,M11.1.0",
        "EST5EDT,M3.6.0,M11.1.0",
        "EST5EDT,M3.2.7,M11.1.0",
        "EST5EDT,J0,J1",
        "EST5EDT,J366,J1",
        "EST5EDT,366,1",
        "EST5EDT,M3.2.0/168,M11.1.0",
        "EST5EDT,M3.2.0/,M11.1.0",
        "UTC00000",
    };
    struct zone_rule rule;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (zone_rule_parse(good[i], &rule) != 0)
            fail_msg("'%s' was refused", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (zone_rule_parse(bad[i], &rule) != -1)
            fail_msg("'%s' was taken", bad[i]);
}

/* libc's own reading of TZ, in this process that has one thread. */
static int32_t offset_of_libc(int64_t at)
{
    struct tm tm;
    time_t t = at;

    localtime_r(&t, &tm);
    return (int32_t)tm.tm_gmtoff;
}

/* TZ and the machine's zone are the process's; each test leaves them as it found them. */
static void set_tz(const char *value)
{
    if (value)
        setenv("TZ", value, 1);
    else
        unsetenv("TZ");
    tzset();
}

static void compare_with_libc(const char *name, int64_t first, int64_t last)
{
    unsigned short seed[3] = {3, 1, 4};
    struct zone *z;
    struct error err;

    set_tz(name);
    if (zone_open(NULL, &z, &err) != 0)
        fail_msg("%s", err.message);
    for (int i = 0; i < 4000; i++) {
        int64_t at = first + (int64_t)(erand48(seed) * (double)(last - first));
        struct zone_span span = zone_span_at(z, at);
        int64_t before = span.start == INT64_MIN ? at : span.start - 1;
        int64_t look[] = {at, before, span.start, span.end - 1, span.end};
        for (size_t k = 0; k < sizeof look / sizeof look[0]; k++)
            if (look[k] >= first && look[k] < last &&
                zone_offset(z, look[k]) != offset_of_libc(look[k]))
                fail_msg("%s at %lld: %d, libc has %d", name, (long long)look[k],
                         zone_offset(z, look[k]), offset_of_libc(look[k]));
        if (span.start > at || at >= span.end)
            fail_msg("%s at %lld is not in its span", name, (long long)at);
    }
    zone_free(z);
    set_tz(NULL);
}

static void rules_give_what_libc_gives(void **state)
{
    static const char *const rules[] = {
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "IST-1GMT0,M10.5.0,M3.5.0/1",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "AAA3BBB,J60,J300/12:30:15",
        "AAA3BBB,59/1,299",
        "AAA-3:30BBB-5,M2.4.6/23,M12.2.3/0",
        "XYZ5:45:30",
    };

    (void)state;
    /* From 1970: libc takes a rule's first year as without a year before it. */
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        compare_with_libc(rules[i], 100000000, 16725225600 /* 2500 */);
}

static void a_rule_can_be_daylight_saving_all_year(void **state)
{
    struct zone_rule rule;

    (void)state;
    assert_int_equal(zone_rule_parse("EST5EDT,0/0,J365/25", &rule), 0);
    for (int64_t at = 1767200000; at < 1767300000; at += 600) /* around New Year 2026 */
        assert_int_equal(zone_rule_span(&rule, at).offset, -4 * 3600);
    assert_int_equal(zone_rule_span(&rule, 1767243600).offset, -4 * 3600); /* the very change */
}

/* All of 2025's changes are in 2026, so that on January 2 those of 2024 are the last. */
static void changes_may_be_in_the_year_after_theirs(void **state)
{
    struct zone_rule rule;

    (void)state;
    assert_int_equal(zone_rule_parse("AAA0BBB,J365/167,J364/167", &rule), 0);
    struct zone_span span = zone_rule_span(&rule, 1767312000);
    assert_int_equal(span.offset, 3600);
    assert_int_equal(span.start, 1736204400); /* 2025-01-06 23:00 */
    assert_int_equal(span.end, 1767650400);   /* 2026-01-05 22:00 */
}

/* ---- zones of the machine ---- */

static void need(const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    if (access(path, R_OK) != 0)
        skip();
}

static void zones_have_their_known_offsets(void **state)
{
    static const struct {
        const char *name;
        int64_t at;
        int32_t offset;
    } known[] = {
        {"Europe/Rome", 1768478400, 3600},          /* 2026-01-15 12:00 */
        {"Europe/Rome", 1784116800, 7200},          /* 2026-07-15 12:00 */
        {"Europe/Rome", 2525860800, 3600},          /* 2050-01-15 */
        {"Europe/Rome", 2541499200, 7200},          /* 2050-07-15 */
        {"Europe/Rome", -804816000, 7200},          /* 1944-07-01 */
        {"America/New_York", 2857118400, -14400},   /* 2060-07-15 */
        {"Australia/Lord_Howe", 1768478400, 39600}, /* half an hour of daylight saving */
        {"Australia/Lord_Howe", 2857118400, 37800}, /* 2060-07-15 */
        {"Asia/Kolkata", 2524608000, 19800},
        {"Europe/Dublin", 2540246400, 3600},
        {"Pacific/Apia", 1325235600, -36000}, /* a day that never was there, */
        {"Pacific/Apia", 1325242800, 50400},  /* 2011-12-30 */
        {"UTC", 1768478400, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct zone *z;
        struct error err;
        need(known[i].name);
        if (zone_open(known[i].name, &z, &err) != 0)
            fail_msg("%s", err.message);
        assert_int_equal(zone_offset(z, known[i].at), known[i].offset);
        zone_free(z);
    }
}

static void zones_give_what_libc_gives(void **state)
{
    static const char *const names[] = {
        "Europe/Rome",     "America/New_York",  "Australia/Lord_Howe", "Europe/Dublin",
        "Asia/Gaza",       "Africa/Casablanca", "America/St_Johns",    "Pacific/Apia",
        "America/Nuuk",    "Asia/Tehran",       "Pacific/Chatham",     "Antarctica/Troll",
        "America/Caracas", "Asia/Kathmandu",    "Etc/GMT+12",          "America/Santiago",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        need(names[i]);
        compare_with_libc(names[i], -1500000000, 7258118400 /* 2200 */);
    }
}

/* ---- names and places ---- */

/* A directory with Here/Zone (3 h east from 2000000 on), a damaged file and a fifo. */
struct place {
    char dir[64], local[96];
    struct zone_places places;
};

static void write_file(const char *dir, const char *name, struct buf b)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.len), b.len);
    close(fd);
    buf_release(&b);
}

static int place_setup(void **state)
{
    struct place *p = xcalloc(1, sizeof *p);
    char path[128];
    struct buf noise = BUF_INIT, large = file("CET-3");

    snprintf(p->dir, sizeof p->dir, "/tmp/keepfs-zone.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->local, sizeof p->local, "%s/local", p->dir);
    snprintf(path, sizeof path, "%s/Here", p->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/fifo", p->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    buf_adds(&noise, "noise");
    while (large.len <= 256 * 1024)
        buf_adds(&large, "trailing bytes ");
    write_file(p->dir, "Here/Zone", file("CET-3"));
    write_file(p->dir, "noise", noise);
    write_file(p->dir, "large", large);
    write_file(p->dir, "empty", (struct buf)BUF_INIT);
    p->places = (struct zone_places){p->dir, p->local};
    set_tz(NULL);
    *state = p;
    return 0;
}

static int place_teardown(void **state)
{
    static const char *const names[] = {"Here/Zone", "Here", "noise", "large",
                                        "empty",     "fifo", "local", ""};
    struct place *p = *state;
    char path[128];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", p->dir, names[i]);
        remove(path);
    }
    set_tz(NULL);
    free(p);
    return 0;
}

/* The offset in January 1970, behind the last change of Here/Zone. */
static void expect_offset(const struct place *p, const char *name, int32_t offset)
{
    struct zone *z;
    struct error err = {0};

    if (zone_open_at(&p->places, name, &z, &err) != 0)
        fail_msg("%s: %s", name ? name : getenv("TZ"), err.message);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(zone_offset(z, 2500000), offset);
    zone_free(z);
}

static void expect_refused(const struct place *p, const char *name, enum error_code code,
                           const char *word)
{
    struct zone *z;
    struct error err = {0};

    if (zone_open_at(&p->places, name, &z, &err) != -1)
        fail_msg("%s was taken", name ? name : getenv("TZ"));
    assert_int_equal(err.code, code);
    if (!strstr(err.message, word))
        fail_msg("'%s' is not in: %s", word, err.message);
}

static void a_name_is_a_file_below_the_directory(void **state)
{
    struct place *p = *state;

    expect_offset(p, "Here/Zone", 3 * 3600);
    expect_offset(p, "UTC", 0); /* without a file */
    expect_refused(p, "Here/Other", ERR_NOT_FOUND, "no time zone Here/Other");
    expect_refused(p, "Here/Zone/x", ERR_NOT_FOUND, "no time zone");
    expect_refused(p, "noise", ERR_INVALID, "damaged");
    expect_refused(p, "empty", ERR_INVALID, "damaged");
    expect_refused(p, "Here", ERR_INVALID, "regular");
    expect_refused(p, "fifo", ERR_INVALID, "regular"); /* without waiting for a writer */
    expect_refused(p, "large", ERR_INVALID, "256 KiB");
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "/etc/localtime",
                                      "..",
                                      "../zoneinfo",
                                      "Here/../noise",
                                      "./noise",
                                      "Here//Zone",
                                      "Here/",
                                      "Here Zone",
                                      "Here\\Zone",
                                      "no\nise",
                                      ":Here/Zone",
                                      "Here/Zone\x80",
                                      "zone.tab"};
    struct place *p = *state;
    char longer[300];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(p, bad[i], ERR_INVALID, "the name of a time zone is");
    memset(longer, 'a', sizeof longer);
    longer[256] = '\0';
    expect_refused(p, longer, ERR_INVALID, "the name of a time zone is");
}

static void the_machines_zone_is_that_of_tz_if_set(void **state)
{
    struct place *p = *state;
    char path[128];

    set_tz("Here/Zone");
    expect_offset(p, NULL, 3 * 3600);
    set_tz(":Here/Zone");
    expect_offset(p, NULL, 3 * 3600);
    snprintf(path, sizeof path, "%s/Here/Zone", p->dir);
    set_tz(path);
    expect_offset(p, NULL, 3 * 3600);
    set_tz("XYZ-5");
    expect_offset(p, NULL, 5 * 3600);
    set_tz("");
    expect_offset(p, NULL, 0);
    write_file(p->dir, "local", file("CET-3"));
    expect_offset(p, NULL, 0); /* set, though empty */
}

static void a_tz_that_says_nothing_is_an_error(void **state)
{
    static const char *const bad[] = {"Mars/Olympus", "noise", "../noise", "XYZ", "::Here/Zone"};
    struct place *p = *state;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set_tz(bad[i]);
        expect_refused(p, NULL, ERR_INVALID, "TZ=");
    }
    set_tz("/nowhere/at/all");
    expect_refused(p, NULL, ERR_NOT_FOUND, "TZ=/nowhere/at/all");
}

static void without_tz_it_is_the_local_file_and_without_that_utc(void **state)
{
    struct place *p = *state;
    struct buf noise = BUF_INIT;

    expect_offset(p, NULL, 0);
    write_file(p->dir, "local", file("CET-3"));
    expect_offset(p, NULL, 3 * 3600);
    buf_adds(&noise, "noise");
    write_file(p->dir, "local", noise);
    expect_refused(p, NULL, ERR_INVALID, "local: it is no time zone file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_1_file_is_its_table),
        cmocka_unit_test(a_version_2_file_is_its_second_block),
        cmocka_unit_test(the_footer_holds_from_the_last_change_on),
        cmocka_unit_test(times_out_of_all_years_are_taken_as_the_nearest_within),
        cmocka_unit_test(an_empty_table_leaves_all_time_to_the_footer),
        cmocka_unit_test(a_change_of_the_name_alone_is_no_change),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(a_file_cut_short_anywhere_is_refused),
        cmocka_unit_test(any_altered_byte_is_survived),
        cmocka_unit_test(rules_are_read_as_posix_writes_them),
        cmocka_unit_test(rules_give_what_libc_gives),
        cmocka_unit_test(a_rule_can_be_daylight_saving_all_year),
        cmocka_unit_test(changes_may_be_in_the_year_after_theirs),
        cmocka_unit_test(zones_have_their_known_offsets),
        cmocka_unit_test(zones_give_what_libc_gives),
        cmocka_unit_test_setup_teardown(a_name_is_a_file_below_the_directory, place_setup,
                                        place_teardown),
        cmocka_unit_test_setup_teardown(names_that_lead_elsewhere_are_refused, place_setup,
                                        place_teardown),
        cmocka_unit_test_setup_teardown(the_machines_zone_is_that_of_tz_if_set, place_setup,
                                        place_teardown),
        cmocka_unit_test_setup_teardown(a_tz_that_says_nothing_is_an_error, place_setup,
                                        place_teardown),
        cmocka_unit_test_setup_teardown(without_tz_it_is_the_local_file_and_without_that_utc,
                                        place_setup, place_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
