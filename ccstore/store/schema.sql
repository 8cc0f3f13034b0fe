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

-- migration 3
-- Closures are followed by numbers: derivations and their outputs are named once. An output that is known only as an
-- input (a cache may have it) has no `base`, and no edges of its own.
CREATE TABLE derivations (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE   -- 64 hex digits
);
CREATE TABLE outputs (
    id         INTEGER PRIMARY KEY,
    derivation INTEGER NOT NULL REFERENCES derivations (id),
    name       TEXT NOT NULL,
    base       TEXT,
    object     INTEGER REFERENCES objects (id),
    UNIQUE (derivation, name)
);
CREATE TABLE edges (
    output INTEGER NOT NULL REFERENCES outputs (id),
    input  INTEGER NOT NULL REFERENCES outputs (id),
    PRIMARY KEY (output, input)
) WITHOUT ROWID;
INSERT INTO derivations (name) SELECT derivation FROM realisations UNION SELECT derivation FROM inputs;
INSERT INTO outputs (id, derivation, name, base, object)
    SELECT realisations.id, derivations.id, output, base, object
    FROM realisations CROSS JOIN derivations ON derivations.name = derivation;
INSERT OR IGNORE INTO outputs (derivation, name)
    SELECT derivations.id, output FROM inputs CROSS JOIN derivations ON derivations.name = derivation;
INSERT INTO edges (output, input)
    SELECT realisation, outputs.id FROM inputs
    CROSS JOIN derivations ON derivations.name = inputs.derivation
    CROSS JOIN outputs ON outputs.derivation = derivations.id AND outputs.name = inputs.output;
CREATE INDEX outputs_by_base ON outputs (base);
CREATE INDEX outputs_by_object ON outputs (object);
CREATE INDEX edges_by_input ON edges (input);
DROP TABLE inputs;
DROP TABLE realisations;

-- They have the names and columns of the tables that they replace, so that a store which cannot be written to, and
-- so keeps its old schema, is read in the same words.
CREATE VIEW realisations (id, derivation, output, base, object) AS
    SELECT outputs.id, derivations.name, outputs.name, base, object
    FROM outputs JOIN derivations ON derivations.id = outputs.derivation
    WHERE base IS NOT NULL;
CREATE VIEW inputs (realisation, derivation, output) AS
    SELECT edges.output, derivations.name, outputs.name
    FROM edges JOIN outputs ON outputs.id = edges.input JOIN derivations ON derivations.id = outputs.derivation;
