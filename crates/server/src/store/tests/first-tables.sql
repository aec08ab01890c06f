-- As the first version of the server made them.
CREATE SCHEMA fourmodes;
SET search_path = fourmodes;
CREATE TABLE meta (
    format integer NOT NULL,
    -- By which clients know that servers have the same state.
    identity uuid NOT NULL DEFAULT gen_random_uuid(),
    -- So many numbers of streams were given away.
    streams bigint NOT NULL DEFAULT 0
);
CREATE TABLE server (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Counts the connections that may commit. An older one may not.
    epoch bigint NOT NULL DEFAULT 0,
    -- Counts the groups of commits.
    grp bigint NOT NULL DEFAULT 0,
    alive boolean NOT NULL DEFAULT true
) WITH (fillfactor = 50);
-- Apart from its server: whoever says it is alive must not wait for a commit.
CREATE TABLE lease (
    server bigint PRIMARY KEY,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE stream (
    number bigint PRIMARY KEY,
    name bytea NOT NULL UNIQUE,
    first bigint NOT NULL,
    last bigint NOT NULL,
    bytes bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE record (
    stream bigint NOT NULL,
    sequence bigint NOT NULL,
    id bytea,
    bytes bytea NOT NULL,
    PRIMARY KEY (stream, sequence)
);
CREATE UNIQUE INDEX record_id ON record (stream, id) WHERE id IS NOT NULL;
CREATE TABLE forgotten (kind bytea PRIMARY KEY, last bigint NOT NULL);
CREATE TABLE key (name bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 70);
INSERT INTO meta (format) VALUES (1);
