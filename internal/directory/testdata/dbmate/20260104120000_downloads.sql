-- migrate:up
CREATE TABLE downloads (
    id             serial PRIMARY KEY,
    download_bytes bigint NOT NULL
);

-- migrate:down
DROP TABLE downloads;
