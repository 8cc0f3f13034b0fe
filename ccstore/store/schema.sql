-- Each migration begins with a line "-- migration N" and is applied once, in order, in one transaction;
-- SQLite's user_version is the number of the last one. Published migrations are never edited.

-- migration 1
CREATE TABLE objects (
    id         INTEGER PRIMARY KEY,
    base       TEXT NOT NULL UNIQUE,   -- <hash>-<name>
    nar_hash   BLOB NOT NULL CHECK (length(nar_hash) = 32),
    nar_size   INTEGER NOT NULL CHECK (nar_size > 0),
    registered INTEGER NOT NULL        -- unix time, seconds
);
CREATE INDEX objects_by_content ON objects (nar_hash);

-- A realisation whose object is not in this store has no `object`. One that has keeps the object's row from
-- being deleted: a collection must detach it first.
CREATE TABLE realisations (
    id         INTEGER PRIMARY KEY,
    derivation TEXT NOT NULL,
    output     TEXT NOT NULL,
    base       TEXT NOT NULL,
    object     INTEGER REFERENCES objects (id),
    UNIQUE (derivation, output)
);
CREATE INDEX realisations_by_base ON realisations (base);
CREATE INDEX realisations_by_object ON realisations (object);

-- The edges of closures. An input may be known only to a cache, so its names are kept and not a row's number.
CREATE TABLE inputs (
    realisation INTEGER NOT NULL REFERENCES realisations (id) ON DELETE CASCADE,
    derivation  TEXT NOT NULL,
    output      TEXT NOT NULL,
    PRIMARY KEY (realisation, derivation, output)
) WITHOUT ROWID;

-- migration 2
-- Which objects have a file of which key (sharing.py). It only finds candidates: a row may be missing.
CREATE TABLE files (
    key    INTEGER NOT NULL,
    object INTEGER NOT NULL,   -- objects.id; deleted together with the object's row
    PRIMARY KEY (key, object)
) WITHOUT ROWID;
