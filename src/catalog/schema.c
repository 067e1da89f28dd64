/* SPDX-License-Identifier: MIT */
/*
 * schema.c - the tables, and how an older file becomes a newer one.
 *
 * PRAGMA application_id says that a file is keepfs's, PRAGMA user_version which schema it has:
 * version N is what the first N scripts of `versions` make. A script that was ever released is
 * never changed; the next version is one more script. All missing scripts run in one transaction,
 * and the version is read inside it.
 *
 * Facts are stored once. A job names the record that it makes from its start on (jobs.record);
 * the record's row has no job column, so that a record that is adopted after a crash is linked
 * with its job by being there. Whether a job's record exists is whether a good row has that ULID.
 *
 * records.state: `good` is listed and found; `missing` was absent from a complete listing of its
 * repo and keeps its row, hence its inode, for when it comes back; `deleting` is not listed any
 * more while its archive is removed. records.pinned keeps a record from deletion; it and
 * records.suspect stay while a record is missing.
 *
 * ticks.handled is the last tick of a repo's schedule that led to a job, or was skipped knowingly.
 *
 * records.day counts days from 1970-01-01, UTC (util/date.h); it is made of created_at, whose
 * lowest value, the first day of the year 0, is what is added before the division and taken off
 * again, so that it rounds down.
 *
 * Sums are kept by triggers, in the transaction that changes what they sum up, whichever statement
 * that is. holdings: the good records of each repo (bytes are REAL: what manifests claim may add up
 * to more than an integer holds, and a sum must not fail the row). outcomes: how jobs of a repo
 * ended, ever, also those that were pruned since; `job` is the row of the last that ended so, which
 * says which of a repo's outcomes is the last one whatever the clock did.
 *
 * expected.since is when it was first expected of a repo that it has backups.
 *
 * Every index is there for a statement that has to be a search with a million jobs; the partial
 * ones stay as small as what is pending, keyed or good. jobs_finished gives pruning the oldest, and
 * jobs_succeeded, whose last column is the row, the newest success that it has to keep. Rows of
 * equal keys are in the order of their ids, which an index need not name. Progress of running jobs
 * changes often and is worth nothing after a crash: a TEMP table, in memory.
 */
#include "catalog/db.h"

#include <errno.h>
#include <stdio.h>

#define APPLICATION_ID 0x6b656570 /* "keep" */

/* How long a job ran, by the clock; a clock that was put right meanwhile is worth 30 days at most.
 */
#define RUN_MS(of)                                                                                 \
    "min(2592000000, max(0, " of "finished_at - coalesce(" of "started_at, " of "finished_at)))"

static const char *const versions[] = {
    "CREATE TABLE jobs ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ulid TEXT NOT NULL UNIQUE CHECK (length(ulid) = 26),"
    "  kind TEXT NOT NULL,"
    "  store TEXT NOT NULL,"
    "  repo TEXT NOT NULL,"
    "  state TEXT NOT NULL CHECK"
    "    (state IN ('pending', 'running', 'succeeded', 'failed', 'interrupted')),"
    "  record TEXT CHECK (length(record) = 26),"
    "  requested_by TEXT NOT NULL,"
    "  key TEXT,"
    "  label TEXT NOT NULL,"
    "  created_at INTEGER NOT NULL,"
    "  started_at INTEGER,"
    "  finished_at INTEGER,"
    "  progress INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),"
    "  stats TEXT NOT NULL DEFAULT '{}' CHECK (stats GLOB '{*}'),"
    "  error_code TEXT,"
    "  error_errno INTEGER NOT NULL DEFAULT 0,"
    "  error_message TEXT,"
    "  CHECK (state <> 'pending' OR started_at IS NULL),"
    "  CHECK (state NOT IN ('running', 'succeeded') OR started_at IS NOT NULL),"
    "  CHECK ((state IN ('pending', 'running')) = (finished_at IS NULL)),"
    "  CHECK ((state IN ('failed', 'interrupted')) = (error_code IS NOT NULL))"
    ") STRICT;"
    "CREATE UNIQUE INDEX jobs_record ON jobs (record) WHERE record IS NOT NULL;"
    "CREATE UNIQUE INDEX jobs_key ON jobs (key) WHERE key IS NOT NULL;"
    "CREATE INDEX jobs_keyed ON jobs (id, key) WHERE key IS NOT NULL;"
    "CREATE INDEX jobs_active ON jobs (id, ulid) WHERE state IN ('pending', 'running');"
    "CREATE INDEX jobs_active_of_store ON jobs (store, state)"
    "  WHERE state IN ('pending', 'running');"

    "CREATE TABLE records ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ulid TEXT NOT NULL UNIQUE CHECK (length(ulid) = 26),"
    "  store TEXT NOT NULL,"
    "  store_kind TEXT NOT NULL,"
    "  repo TEXT NOT NULL,"
    "  created_at INTEGER NOT NULL,"
    "  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),"
    "  content_bytes INTEGER NOT NULL CHECK (content_bytes >= 0),"
    "  sha256 TEXT NOT NULL,"
    "  manifest_bytes INTEGER NOT NULL CHECK (manifest_bytes >= 0),"
    "  payload_id_count INTEGER NOT NULL CHECK (payload_id_count >= 0),"
    "  payload_ids_bytes INTEGER NOT NULL CHECK (payload_ids_bytes >= 0),"
    "  state TEXT NOT NULL DEFAULT 'good' CHECK (state IN ('good', 'missing', 'deleting')),"
    "  pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))"
    ") STRICT;"
    "CREATE INDEX records_good ON records (id, ulid) WHERE state = 'good';"
    "CREATE INDEX records_of_store ON records (store, created_at, ulid) WHERE state = 'good';"
    "CREATE INDEX records_of_repo ON records (store, repo, created_at, ulid)"
    "  WHERE state = 'good';"

    "CREATE TABLE stores ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE"
    ") STRICT;"
    "CREATE TABLE repos ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  store INTEGER NOT NULL REFERENCES stores (id),"
    "  name TEXT NOT NULL,"
    "  UNIQUE (store, name)"
    ") STRICT;"
    "CREATE TABLE places ("
    "  repo INTEGER NOT NULL REFERENCES repos (id),"
    "  place TEXT NOT NULL,"
    "  PRIMARY KEY (repo, place)"
    ") STRICT, WITHOUT ROWID;",

    "ALTER TABLE jobs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1);"
    "CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;"
    "CREATE INDEX jobs_succeeded ON jobs (store, repo, kind) WHERE state = 'succeeded';"

    "ALTER TABLE records ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0 CHECK (suspect IN (0, 1, "
    "2));"
    "CREATE INDEX records_deleting ON records (id) WHERE state = 'deleting';"
    "CREATE INDEX records_missing ON records (store, repo, created_at) WHERE state = 'missing';"

    "CREATE TABLE ticks ("
    "  repo INTEGER PRIMARY KEY REFERENCES repos (id),"
    "  handled INTEGER NOT NULL"
    ") STRICT;",

    "ALTER TABLE records ADD COLUMN day INTEGER GENERATED ALWAYS AS"
    "  ((created_at + 62167219200000) / 86400000 - 719528) VIRTUAL;"
    "CREATE INDEX records_of_day ON records (day) WHERE state = 'good';"
    "CREATE INDEX records_in_store ON records (store) WHERE state = 'good';"
    "CREATE INDEX records_pinned ON records (id) WHERE pinned = 1 AND state = 'good';"
    "CREATE INDEX jobs_of_store ON jobs (store);",

    "CREATE TABLE holdings ("
    "  store TEXT NOT NULL,"
    "  repo TEXT NOT NULL,"
    "  records INTEGER NOT NULL,"
    "  suspect INTEGER NOT NULL,"
    "  size_bytes REAL NOT NULL,"
    "  content_bytes REAL NOT NULL,"
    "  PRIMARY KEY (store, repo)"
    ") STRICT, WITHOUT ROWID;"
    "INSERT INTO holdings SELECT store, repo, count(*), sum(suspect = 1), total(size_bytes),"
    "  total(content_bytes) FROM records WHERE state = 'good' GROUP BY store, repo;"
    "CREATE TRIGGER records_come AFTER INSERT ON records WHEN new.state = 'good' BEGIN"
    "  INSERT INTO holdings VALUES (new.store, new.repo, 1, new.suspect = 1, new.size_bytes,"
    "    new.content_bytes) ON CONFLICT (store, repo) DO UPDATE SET records = records + 1,"
    "    suspect = suspect + excluded.suspect, size_bytes = size_bytes + excluded.size_bytes,"
    "    content_bytes = content_bytes + excluded.content_bytes;"
    " END;"
    "CREATE TRIGGER records_change AFTER UPDATE OF store, repo, state, suspect, size_bytes,"
    " content_bytes ON records BEGIN"
    "  UPDATE holdings SET records = records - 1, suspect = suspect - (old.suspect = 1),"
    "    size_bytes = size_bytes - old.size_bytes,"
    "    content_bytes = content_bytes - old.content_bytes"
    "    WHERE old.state = 'good' AND store = old.store AND repo = old.repo;"
    "  INSERT INTO holdings SELECT new.store, new.repo, 1, new.suspect = 1, new.size_bytes,"
    "    new.content_bytes WHERE new.state = 'good'"
    "    ON CONFLICT (store, repo) DO UPDATE SET records = records + 1,"
    "    suspect = suspect + excluded.suspect, size_bytes = size_bytes + excluded.size_bytes,"
    "    content_bytes = content_bytes + excluded.content_bytes;"
    " END;"
    "CREATE TRIGGER records_go AFTER DELETE ON records WHEN old.state = 'good' BEGIN"
    "  UPDATE holdings SET records = records - 1, suspect = suspect - (old.suspect = 1),"
    "    size_bytes = size_bytes - old.size_bytes,"
    "    content_bytes = content_bytes - old.content_bytes"
    "    WHERE store = old.store AND repo = old.repo;"
    " END;"
    "CREATE INDEX records_suspect ON records (store, repo, created_at, ulid)"
    "  WHERE suspect = 1 AND state = 'good';"

    "CREATE TABLE outcomes ("
    "  store TEXT NOT NULL,"
    "  repo TEXT NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  state TEXT NOT NULL,"
    "  jobs INTEGER NOT NULL,"
    "  run_ms INTEGER NOT NULL,"
    "  job INTEGER NOT NULL,"
    "  ulid TEXT NOT NULL,"
    "  finished_at INTEGER NOT NULL,"
    "  last_ms INTEGER NOT NULL,"
    "  error_code TEXT,"
    "  PRIMARY KEY (store, repo, kind, state)"
    ") STRICT, WITHOUT ROWID;"
    /* SQLite takes the other columns from the row that has max(). */
    "INSERT INTO outcomes SELECT store, repo, kind, state, count(*),"
    "  sum(" RUN_MS(
        "") "), max(id), ulid, finished_at,"
            "  " RUN_MS("") ", error_code FROM jobs"
                            "  WHERE finished_at IS NOT NULL GROUP BY store, repo, kind, state;"
                            "CREATE TRIGGER jobs_end AFTER UPDATE OF state ON jobs"
                            " WHEN old.finished_at IS NULL AND new.finished_at IS NOT NULL BEGIN"
                            "  INSERT INTO outcomes SELECT new.store, new.repo, new.kind, "
                            "new.state, 1, ms, new.id,"
                            "    new.ulid, new.finished_at, ms, new.error_code FROM (SELECT"
                            "    " RUN_MS(
                                "new.") " AS ms) WHERE true"
                                        "    ON CONFLICT (store, repo, kind, state) DO UPDATE SET "
                                        "jobs = jobs + 1,"
                                        "    run_ms = run_ms + excluded.run_ms, job = "
                                        "excluded.job, ulid = excluded.ulid,"
                                        "    finished_at = excluded.finished_at, last_ms = "
                                        "excluded.last_ms,"
                                        "    error_code = excluded.error_code;"
                                        " END;"

                                        "CREATE TABLE expected ("
                                        "  repo INTEGER PRIMARY KEY REFERENCES repos (id),"
                                        "  since INTEGER NOT NULL"
                                        ") STRICT;",
};

#define VERSION ((int)(sizeof versions / sizeof versions[0]))

static const char temp_tables[] = "CREATE TEMP TABLE job_progress ("
                                  "  job INTEGER PRIMARY KEY,"
                                  "  percent INTEGER NOT NULL,"
                                  "  done INTEGER NOT NULL,"
                                  "  expected INTEGER NOT NULL"
                                  ") STRICT;";

static int read_int(struct catalog *c, const char *sql, int *out, struct error *err)
{
    sqlite3_stmt *s = NULL;

    errno = 0;
    int rc = sqlite3_prepare_v2(c->sqlite, sql, -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(s, 0);
    int result = rc == SQLITE_ROW ? 0 : db_fail(c, rc, err);
    sqlite3_finalize(s);
    return result;
}

static int check_version(struct catalog *c, int version, struct error *err)
{
    char reason[128];

    if (version < 0)
        return db_unusable(c, "its schema version is negative", err);
    if (version <= VERSION)
        return 0;
    snprintf(reason, sizeof reason,
             "it was written by a newer keepfs (schema version %d, this one knows up to %d); "
             "upgrade keepfs to use it",
             version, VERSION);
    return db_unusable(c, reason, err);
}

int schema_check(struct catalog *c, struct error *err)
{
    int application = 0, version = 0, tables = 0;

    if (read_int(c, "PRAGMA application_id", &application, err) != 0 ||
        read_int(c, "PRAGMA user_version", &version, err) != 0 ||
        read_int(c, "SELECT count(*) FROM sqlite_schema", &tables, err) != 0)
        return -1;
    if (application == 0 && version == 0 && tables == 0)
        return 0;
    if (application != APPLICATION_ID)
        return db_unusable(c, "it is a database of another program", err);
    return check_version(c, version, err);
}

static int migrate(struct catalog *c, struct error *err)
{
    char pragma[128];
    int version = 0;

    if (read_int(c, "PRAGMA user_version", &version, err) != 0 ||
        check_version(c, version, err) != 0)
        return -1;
    for (int i = version; i < VERSION; i++)
        if (db_execute(c, versions[i], err) != 0)
            return -1;
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             APPLICATION_ID, VERSION);
    return db_execute(c, pragma, err);
}

int schema_apply(struct catalog *c, struct error *err)
{
    int version = 0;

    if (read_int(c, "PRAGMA user_version", &version, err) != 0)
        return -1;
    if (version < VERSION) {
        if (db_execute(c, "BEGIN IMMEDIATE", err) != 0)
            return -1;
        if (migrate(c, err) != 0 || db_execute(c, "COMMIT", err) != 0) {
            (void)sqlite3_exec(c->sqlite, "ROLLBACK", NULL, NULL, NULL);
            return -1;
        }
    }
    return db_execute(c, temp_tables, err);
}

int schema_look(struct catalog *c, struct error *err)
{
    int version = 0;

    if (read_int(c, "PRAGMA user_version", &version, err) != 0)
        return -1;
    if (version == 0)
        return db_not_found(err, "the state database %s is empty", c->path);
    if (version < VERSION)
        return db_unusable(c, "it was written by an older keepfs; the next start updates it", err);
    return db_execute(c, temp_tables, err);
}
